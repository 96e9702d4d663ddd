//! Text to tokens (CF-1 … CF-13).

use super::Token;
use std::sync::Arc;

/// A token, and whether it is the first of its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lexeme {
    pub(super) token: Token,
    /// A line break stands before it, outside of any token; also true for the first of a file.
    /// It is kept here and not found out from line numbers, because tokens of snippets and
    /// imported files carry the line numbers of the place they come from.
    pub(super) first: bool,
}

impl Lexeme {
    /// Whether the whole token is `word`, as written: the value of an environment variable can
    /// be neither a brace nor an `import` (CF-22).
    pub(super) fn is(&self, word: &str) -> bool {
        self.token.text == word
    }
}

/// The tokens of a file. Any text has some; nothing is an error here.
pub(super) fn lex(text: &str, file: &Arc<str>) -> Vec<Lexeme> {
    let mut lexer = Lexer {
        file,
        tokens: Vec::new(),
        line: 1,
        start: 1,
        first: true,
        word: String::new(),
    };
    lexer.run(text.strip_prefix('\u{feff}').unwrap_or(text));
    lexer.tokens
}

struct Lexer<'a> {
    file: &'a Arc<str>,
    tokens: Vec<Lexeme>,
    /// The line of the next character.
    line: u32,
    /// The line on which `word` began.
    start: u32,
    /// Whether the next token is the first of its line.
    first: bool,
    /// The token so far; empty between tokens.
    word: String,
}

impl Lexer<'_> {
    fn run(&mut self, text: &str) {
        let mut chars = text.chars();
        let mut comment = false;
        while let Some(c) = chars.next() {
            match c {
                '\r' => {}
                c if c.is_whitespace() => {
                    // Also ends a comment that began inside the word (CF-12).
                    if !self.word.is_empty() {
                        self.emit();
                        comment = false;
                    }
                    if c == '\n' {
                        self.line += 1;
                        self.first = true;
                        comment = false;
                    }
                }
                _ if comment => {}
                '#' => comment = true,
                '"' if self.word.is_empty() => {
                    self.start = self.line;
                    let closed = self.quoted(&mut chars);
                    if closed || !self.word.is_empty() {
                        self.emit();
                    }
                }
                c => {
                    if self.word.is_empty() {
                        self.start = self.line;
                    }
                    self.word.push(c);
                }
            }
        }
        if !self.word.is_empty() {
            self.emit();
        }
    }

    /// The rest of a quoted token. Whether the closing quote was there.
    fn quoted(&mut self, chars: &mut std::str::Chars<'_>) -> bool {
        while let Some(c) = chars.next() {
            match c {
                '"' => return true,
                '\\' => match chars.next() {
                    Some('"') => self.word.push('"'),
                    Some(other) => {
                        self.line += u32::from(other == '\n');
                        self.word.extend(['\\', other]);
                    }
                    None => return false,
                },
                c => {
                    self.line += u32::from(c == '\n');
                    self.word.push(c);
                }
            }
        }
        false
    }

    fn emit(&mut self) {
        self.tokens.push(Lexeme {
            token: Token {
                text: std::mem::take(&mut self.word),
                file: Arc::clone(self.file),
                line: self.start,
            },
            first: std::mem::take(&mut self.first),
        });
    }
}
