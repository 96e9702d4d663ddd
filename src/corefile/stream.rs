//! The tokens of a Corefile in the order in which they count: imports are replaced by what they
//! stand for (CF-50 … CF-60).

use super::env::{Env, substitute};
use super::files::{self, Files, is_pattern};
use super::lexer::{Lexeme, lex};
use super::{Error, Token};
use crate::limits;
use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Tokens as they come out of files and snippets.
///
/// `sources` is a stack: an import puts its tokens on top of the place where it stands. Nothing
/// here recurses, so that no Corefile is too deep; and every import costs a part of a budget, so
/// that none is too wide.
pub(super) struct Stream<'a> {
    env: Env<'a>,
    files: &'a dyn Files,
    sources: Vec<Source>,
    snippets: HashMap<String, Arc<[Lexeme]>>,
    lexed: HashMap<PathBuf, Arc<[Lexeme]>>,
    snippets_left: usize,
    files_left: usize,
    octets_left: usize,
    /// The token taken last.
    last: Option<Token>,
    pub(super) warnings: Vec<String>,
    pub(super) dirs: BTreeSet<PathBuf>,
}

/// A file or snippet that is being read; it has begun when `at` is not 0.
struct Source {
    origin: Origin,
    tokens: Arc<[Lexeme]>,
    at: usize,
}

#[derive(PartialEq, Eq)]
enum Origin {
    File(PathBuf),
    Snippet(String),
}

impl<'a> Stream<'a> {
    /// The tokens of `text`, which stands in the file `name`.
    pub(super) fn new(name: &str, text: &str, env: Env<'a>, files: &'a dyn Files) -> Self {
        let path = files::absolute(&files.current_dir(), Path::new(name));
        let tokens: Arc<[Lexeme]> = lex(text, &Arc::from(name)).into();
        Self {
            env,
            files,
            sources: vec![Source {
                origin: Origin::File(path.clone()),
                tokens: Arc::clone(&tokens),
                at: 0,
            }],
            snippets: HashMap::new(),
            lexed: HashMap::from([(path, tokens)]),
            snippets_left: limits::SNIPPET_EXPANSIONS,
            files_left: limits::FILE_EXPANSIONS,
            octets_left: limits::COREFILE_EXPANSION,
            last: None,
            warnings: Vec::new(),
            dirs: BTreeSet::new(),
        }
    }

    /// The next token, as written.
    pub(super) fn peek(&mut self) -> Option<&Lexeme> {
        while let Some(top) = self.sources.last()
            && top.at == top.tokens.len()
        {
            self.sources.pop();
        }
        let top = self.sources.last()?;
        top.tokens.get(top.at)
    }

    /// Whether the next token is `word`.
    pub(super) fn at(&mut self, word: &str) -> bool {
        self.peek().is_some_and(|next| next.is(word))
    }

    /// Whether the next token stands on the line of the one taken last.
    ///
    /// What follows an import stands on a line of its own, so only the topmost source counts; and
    /// it stays on the stack, because an import at its end is still inside of it.
    pub(super) fn on_line(&self) -> bool {
        let top = self.sources.last();
        let next = top.and_then(|top| top.tokens.get(top.at));
        next.is_some_and(|next| !next.first)
    }

    /// Takes the next token, as written.
    pub(super) fn take(&mut self) -> Option<Lexeme> {
        let next = self.peek()?.clone();
        // `peek` found a token, so there is a source.
        self.sources.last_mut()?.at += 1;
        self.last = Some(next.token.clone());
        Some(next)
    }

    /// The token with its environment variables replaced.
    pub(super) fn resolve(&self, lexeme: Lexeme) -> Token {
        let mut token = lexeme.token;
        if token.text.contains('{') {
            token.text = substitute(&token.text, self.env);
        }
        token
    }

    /// An error at the token taken last.
    pub(super) fn error(&self, message: &str) -> Error {
        match &self.last {
            Some(token) => token.error(message),
            None => Error::internal(message),
        }
    }

    /// The end of the text in the middle of something.
    pub(super) fn end_error(&self) -> Error {
        self.error("Unexpected EOF")
    }

    /// Another token was expected in the place of the one taken last.
    pub(super) fn expected(&self, what: &str) -> Error {
        match &self.last {
            Some(token) => {
                token.syntax_error(format!("Unexpected token '{token}', expecting '{what}'"))
            }
            None => self.end_error(),
        }
    }

    /// Names what has been read between the braces of a snippet.
    ///
    /// # Errors
    /// If the name is taken; at `place`.
    pub(super) fn define(
        &mut self,
        name: &str,
        mut tokens: Vec<Lexeme>,
        place: &Token,
    ) -> Result<(), Error> {
        // It may stand on the line of the brace; where it is imported it begins a line.
        if let Some(first) = tokens.first_mut() {
            first.first = true;
        }
        let taken = self.snippets.insert(name.to_owned(), tokens.into());
        match taken {
            Some(_) => Err(place.error(format!(
                "redeclaration of previously declared snippet {name}"
            ))),
            None => Ok(()),
        }
    }

    /// Takes an `import` and its argument; the tokens that it stands for come next.
    ///
    /// # Errors
    /// At the argument: its form, a file that cannot be read, a cycle, a limit.
    pub(super) fn import(&mut self) -> Result<(), Error> {
        let keyword = self.take();
        if !self.on_line() {
            return Err(keyword.map_or_else(|| self.end_error(), |k| k.token.arg_error()));
        }
        let Some(target) = self.take() else {
            return Err(self.end_error());
        };
        let target = self.resolve(target);
        if target.text.is_empty() {
            return Err(target.error("Import requires a non-empty filepath"));
        }
        if self.on_line() {
            return Err(target.error("Import takes only one argument (glob pattern or file)"));
        }
        match self.snippets.get(&target.text) {
            Some(tokens) => {
                let tokens = Arc::clone(tokens);
                self.snippets_left = self.snippets_left.checked_sub(1).ok_or_else(|| {
                    let most = limits::SNIPPET_EXPANSIONS;
                    target.error(format!("more than {most} snippets are imported"))
                })?;
                self.enter(Origin::Snippet(target.text.clone()), tokens, &target)
            }
            None => self.import_files(&target),
        }
    }

    fn import_files(&mut self, target: &Token) -> Result<(), Error> {
        let cwd = self.files.current_dir();
        // Relative to the file that the token stands in, not to the current directory (CF-54).
        let mut base = files::absolute(&cwd, Path::new(&*target.file));
        base.pop();
        let pattern = files::absolute(&base, Path::new(&target.text));
        let shown = pattern.display();
        let count = |wildcard| target.text.matches(wildcard).count();
        if count('*') > 1 || count('?') > 1 || (count('[') > 0 && count(']') > 0) {
            return Err(target.error(format!(
                "Glob pattern may only contain one wildcard (*), but has others: {shown}"
            )));
        }
        let (found, listed) = files::glob(self.files, &pattern);
        self.dirs.extend(listed);
        if found.is_empty() {
            if !is_pattern(target.text.as_ref()) {
                return Err(target.error(format!("File to import not found: {target}")));
            }
            self.warnings
                .push(format!("No files matching import glob pattern: {target}"));
        }
        // The first file goes on the stack last.
        for path in found.into_iter().rev() {
            self.files_left = self.files_left.checked_sub(1).ok_or_else(|| {
                let most = limits::FILE_EXPANSIONS;
                target.error(format!("more than {most} files are imported"))
            })?;
            let tokens = self.read(&path, target)?;
            self.enter(Origin::File(path), tokens, target)?;
        }
        Ok(())
    }

    fn read(&mut self, path: &Path, target: &Token) -> Result<Arc<[Lexeme]>, Error> {
        if let Some(tokens) = self.lexed.get(path) {
            return Ok(Arc::clone(tokens));
        }
        let text = self.files.read(path).map_err(|error| {
            let why = match error.kind() {
                ErrorKind::IsADirectory => "is a directory".to_owned(),
                _ => error.to_string(),
            };
            target.error(format!("Could not import {}: {why}", path.display()))
        })?;
        let tokens: Arc<[Lexeme]> = lex(&text, &Arc::from(path.to_string_lossy())).into();
        self.lexed.insert(path.to_owned(), Arc::clone(&tokens));
        Ok(tokens)
    }

    /// Puts the tokens of a file or snippet in the place of its import.
    fn enter(
        &mut self,
        origin: Origin,
        tokens: Arc<[Lexeme]>,
        target: &Token,
    ) -> Result<(), Error> {
        let inside = |source: &Source| source.at > 0 && source.origin == origin;
        if self.sources.iter().any(inside) {
            return Err(target.error(format!(
                "import cycle: '{target}' is imported by what it contains"
            )));
        }
        let size = |lexeme: &Lexeme| size_of::<Lexeme>() + lexeme.token.text.len();
        let cost = tokens.iter().map(size).sum();
        self.octets_left = self.octets_left.checked_sub(cost).ok_or_else(|| {
            let most = limits::COREFILE_EXPANSION >> 20;
            target.error(format!("imports make the Corefile longer than {most} MiB"))
        })?;
        if !tokens.is_empty() {
            self.sources.push(Source {
                origin,
                tokens,
                at: 0,
            });
        }
        Ok(())
    }

    /// Every file read, the first one included.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let files: BTreeSet<_> = self.lexed.keys().cloned().collect();
        files.into_iter().collect()
    }
}
