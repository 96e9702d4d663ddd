//! Settings that several directives have: addresses to listen on, regular expressions; and
//! durations as log lines show them.

use crate::corefile::{Error, Token};
use regex::Regex;
use std::time::Duration;

/// Longest regular expression that a directive takes, in characters.
pub const REGEX_LIMIT: usize = 10_000;

/// An address to listen on, `HOST:PORT`; the host may be empty or in brackets.
///
/// # Errors
/// Names the token if it has no port, or a port that is no number.
pub fn host_port(token: &Token) -> Result<String, Error> {
    let text = token.as_str();
    let wrong = |what| token.error(format!("address {text}: {what}"));
    let (host, port) = text
        .rsplit_once(':')
        .ok_or_else(|| wrong("missing port in address"))?;
    match (host.strip_prefix('['), host.strip_suffix(']')) {
        (Some(_), Some(_)) => {}
        (None, None) if host.contains(':') => return Err(wrong("too many colons in address")),
        (None, None) => {}
        _ => return Err(wrong("missing ']' in address")),
    }
    if port.parse::<u16>().is_err() {
        return Err(wrong("invalid port"));
    }
    Ok(text.to_owned())
}

/// A regular expression of at most [`REGEX_LIMIT`] characters.
///
/// # Errors
/// Names the token, and what is wrong with the expression.
pub fn regex(token: &Token) -> Result<Regex, Error> {
    if token.text.chars().count() > REGEX_LIMIT {
        return Err(token.error(format!(
            "regex pattern too long: more than {REGEX_LIMIT} characters"
        )));
    }
    Regex::new(&token.text)
        .map_err(|error| token.error(format!("could not parse regex: {}, {error}", token.text)))
}

/// A duration the way Go prints it: `5s`, `1m30s`, `1h0m0s`, `1.5s`, `500ms`.
pub fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let fraction = |unit: u128| {
        let whole = nanos / unit;
        let digits = unit.ilog10() as usize;
        let rest = format!("{:0digits$}", nanos % unit);
        match rest.trim_end_matches('0') {
            "" => whole.to_string(),
            rest => format!("{whole}.{rest}"),
        }
    };
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(1_000_000)),
        _ => {
            let minutes = duration.as_secs() / 60;
            let rest = Duration::from_nanos((nanos % 60_000_000_000) as u64);
            let mut seconds = rest.as_secs().to_string();
            let below = format!("{:09}", rest.subsec_nanos());
            if let below @ [_, ..] = below.trim_end_matches('0').as_bytes() {
                seconds.push('.');
                seconds.push_str(&String::from_utf8_lossy(below));
            }
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_prints_them() {
        for (nanos, text) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (300_000_000_000, "5m0s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn addresses() {
        let check = |text: &str| {
            let file = "Corefile".into();
            let token = Token {
                text: text.into(),
                file,
                line: 3,
            };
            host_port(&token).map_err(|error| error.message)
        };
        for text in [":8080", "localhost:9153", "[::1]:80", "0.0.0.0:0"] {
            assert_eq!(check(text), Ok(text.to_owned()));
        }
        for (text, error) in [
            ("8080", "address 8080: missing port in address"),
            ("::1:80", "address ::1:80: too many colons in address"),
            ("[::1:80", "address [::1:80: missing ']' in address"),
            (":dns", "address :dns: invalid port"),
        ] {
            assert_eq!(check(text), Err(error.to_owned()));
        }
    }
}
