//! What dnsperf says.

/// The number behind `name` in dnsperf's report.
pub fn number(text: &str, name: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dnsperf_report() {
        let text = "Statistics:\n\n  Queries sent:         100\n  Queries completed:    99 (99.00%)\n  \
                    Queries lost:         1 (1.00%)\n  Queries per second:   4985.9 \n";
        assert_eq!(number(text, "Queries completed:"), Some(99.0));
        assert_eq!(number(text, "Queries lost:"), Some(1.0));
        assert_eq!(number(text, "Queries per second:"), Some(4985.9));
        assert_eq!(number(text, "Nothing:"), None);
    }
}
