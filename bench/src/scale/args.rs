//! The arguments of a command: `--name value`, and a few flags without value.

/// Flags that stand alone.
const ALONE: [&str; 4] = ["--delete", "--keep", "--no-cache", "--stand-in"];

/// Arguments, of which each command takes what it knows.
pub struct Args {
    left: Vec<(String, String)>,
}

impl Args {
    /// Reads the arguments; `None` if help is wanted.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut left = Vec::new();
        while let Some(name) = args.next() {
            if matches!(name.as_str(), "--help" | "-help" | "-h") {
                return Ok(None);
            }
            if !name.starts_with("--") {
                return Err(format!("unexpected {name}; try --help"));
            }
            let value = match ALONE.contains(&name.as_str()) {
                true => String::new(),
                false => args.next().ok_or_else(|| format!("{name} needs a value"))?,
            };
            left.push((name, value));
        }
        Ok(Some(Self { left }))
    }

    /// Takes every value of an option.
    pub fn all(&mut self, name: &str) -> Vec<String> {
        let (taken, left) = std::mem::take(&mut self.left)
            .into_iter()
            .partition(|(found, _)| found == name);
        self.left = left;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// Takes an option's last value.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.all(name).pop()
    }

    /// Takes a number.
    pub fn number(&mut self, name: &str, default: u32) -> Result<u32, String> {
        match self.text(name) {
            None => Ok(default),
            Some(value) => value
                .parse()
                .map_err(|_| format!("{name}: no number: {value}")),
        }
    }

    /// Takes a number that must not be zero.
    pub fn positive(&mut self, name: &str, default: u32) -> Result<u32, String> {
        match self.number(name, default)? {
            0 => Err(format!("{name} must not be 0")),
            number => Ok(number),
        }
    }

    /// That nothing is left.
    pub fn finish(&self) -> Result<(), String> {
        match self.left.first() {
            None => Ok(()),
            Some((name, _)) => Err(format!("unknown option {name}; try --help")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Args>, String> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn taken_once() {
        let mut args = parse("--rounds 3 --delete --peer a=b --peer c=d")
            .unwrap()
            .unwrap();
        assert_eq!(args.number("--rounds", 5), Ok(3));
        assert_eq!(args.number("--rounds", 5), Ok(5));
        assert_eq!(args.all("--peer"), ["a=b", "c=d"]);
        assert_eq!(
            args.finish().unwrap_err(),
            "unknown option --delete; try --help"
        );
        assert!(args.text("--delete").is_some());
        assert!(args.finish().is_ok());
    }

    #[test]
    fn nonsense() {
        assert_eq!(parse("x").err().unwrap(), "unexpected x; try --help");
        assert_eq!(parse("--x").err().unwrap(), "--x needs a value");
        assert!(parse("--x 1 --help").unwrap().is_none());
        let mut args = parse("--x 0 --y z").unwrap().unwrap();
        assert_eq!(args.positive("--x", 1).unwrap_err(), "--x must not be 0");
        assert_eq!(args.number("--y", 1).unwrap_err(), "--y: no number: z");
    }
}
