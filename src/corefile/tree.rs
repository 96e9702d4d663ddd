//! What a Corefile is made of, and the errors that point into it.

use std::fmt;
use std::sync::Arc;

/// A word of the Corefile, environment variables replaced, with its place.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The text, quotes removed.
    pub text: String,
    /// The file it stands in: as named on the command line, absolute for imported files.
    pub file: Arc<str>,
    /// The line it starts on, from 1.
    pub line: u32,
}

/// An option line in a directive's block: its first word and the arguments behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The option's name.
    pub name: Token,
    /// The rest of the line.
    pub args: Vec<Token>,
}

/// One occurrence of a directive in a server block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// The directive's name.
    pub name: Token,
    /// The arguments on the directive's own line.
    pub args: Vec<Token>,
    /// The option lines between braces; empty without a block.
    pub block: Vec<Line>,
}

/// A server block: the keys as written, and the directives in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerBlock {
    /// The keys (`.:53`, `dns://example.org`, `10.0.0.0/24`).
    pub keys: Vec<Token>,
    /// The directives.
    pub directives: Vec<Directive>,
}

/// What is wrong at a place of the Corefile.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something the server itself got wrong.
    Internal,
    /// A rule of a directive or of the parser.
    Parse,
    /// The text of a plugin's setup (`plugin/NAME: …`).
    Plugin(&'static str),
    /// A token where another was expected.
    Syntax,
}

/// An error at a place of the Corefile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The kind.
    pub kind: ErrorKind,
    /// The place, if there is one.
    pub place: Option<(Arc<str>, u32)>,
    /// What is wrong.
    pub message: String,
}

impl Error {
    /// An error without a place.
    pub fn internal(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Internal,
            place: None,
            message: message.into(),
        }
    }

    /// The same error as the setup of plugin `name` reports it: `plugin/NAME: …`.
    #[must_use]
    pub fn in_plugin(mut self, name: &'static str) -> Self {
        if !matches!(self.kind, ErrorKind::Plugin(_)) {
            if let (ErrorKind::Parse | ErrorKind::Syntax, Some(_)) = (&self.kind, &self.place) {
                self.message = self.to_string();
                self.place = None;
            }
            self.kind = ErrorKind::Plugin(name);
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ErrorKind::Plugin(name) => return write!(f, "plugin/{name}: {}", self.message),
            ErrorKind::Syntax => "Syntax error",
            ErrorKind::Parse | ErrorKind::Internal => "Error during parsing",
        };
        match &self.place {
            Some((file, line)) => write!(f, "{file}:{line} - {what}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}

impl Token {
    /// An error at this token: `FILE:LINE - Error during parsing: MESSAGE`.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error {
            kind: ErrorKind::Parse,
            place: Some((Arc::clone(&self.file), self.line)),
            message: message.into(),
        }
    }

    /// A syntax error at this token: `FILE:LINE - Syntax error: MESSAGE`.
    pub fn syntax_error(&self, message: impl Into<String>) -> Error {
        Error {
            kind: ErrorKind::Syntax,
            ..self.error(message)
        }
    }

    /// Too few or too many arguments behind this token.
    pub fn arg_error(&self) -> Error {
        self.error(format!(
            "Wrong argument count or unexpected line ending after '{}'",
            self.text
        ))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{}", self.text, self.line)
    }
}

/// Arguments counted: shared by directives and their option lines.
fn exactly<'t, const N: usize>(name: &Token, args: &'t [Token]) -> Result<&'t [Token; N], Error> {
    args.try_into()
        .map_err(|_| args.last().unwrap_or(name).arg_error())
}

impl Directive {
    /// An error at the directive's name.
    pub fn error(&self, message: impl Into<String>) -> Error {
        self.name.error(message)
    }

    /// Exactly `N` arguments.
    ///
    /// # Errors
    /// The argument error at the last token of the line.
    pub fn exactly<const N: usize>(&self) -> Result<&[Token; N], Error> {
        exactly(&self.name, &self.args)
    }

    /// That there is no block of options.
    ///
    /// # Errors
    /// `unknown property` at its first line.
    pub fn no_block(&self) -> Result<(), Error> {
        match self.block.first() {
            Some(line) => Err(line.unknown()),
            None => Ok(()),
        }
    }
}

impl Line {
    /// An error at the option's name.
    pub fn error(&self, message: impl Into<String>) -> Error {
        self.name.error(message)
    }

    /// `unknown property 'NAME'`.
    pub fn unknown(&self) -> Error {
        self.error(format!("unknown property '{}'", self.name))
    }

    /// Exactly `N` arguments.
    ///
    /// # Errors
    /// The argument error at the last token of the line.
    pub fn exactly<const N: usize>(&self) -> Result<&[Token; N], Error> {
        exactly(&self.name, &self.args)
    }

    /// At least one argument.
    ///
    /// # Errors
    /// The argument error at the option's name.
    pub fn some_args(&self) -> Result<&[Token], Error> {
        if self.args.is_empty() {
            Err(self.name.arg_error())
        } else {
            Ok(&self.args)
        }
    }
}
