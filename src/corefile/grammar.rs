//! Tokens to server blocks (CF-30 … CF-46).

use super::lexer::Lexeme;
use super::stream::Stream;
use super::{Directive, Error, Line, ServerBlock, Token};

const STRAY_BRACE: &str = "Unexpected '}' because no matching opening brace";

/// Every server block of the file; snippets are stored on the way.
///
/// # Errors
/// The first one, at its token.
pub(super) fn blocks(stream: &mut Stream<'_>) -> Result<Vec<ServerBlock>, Error> {
    let mut blocks = Vec::new();
    while stream.peek().is_some() {
        let keys = keys(stream)?;
        if let Some((name, place)) = snippet_name(&keys) {
            let tokens = snippet(stream)?;
            stream.define(name, tokens, place)?;
            continue;
        }
        let place = stream.peek().map(|next| next.token.clone());
        let directives = directives(stream)?;
        if !keys.is_empty() {
            blocks.push(ServerBlock { keys, directives });
        } else if let Some(place) = place {
            // What an unset variable leaves of `{$DOMAIN} {`.
            let Token { file, line, .. } = place;
            let what = "a server block without a key is ignored";
            stream.warnings.push(format!("{file}:{line} - {what}"));
        }
    }
    Ok(blocks)
}

/// The keys of a server block: those of a line, and of the next one after a comma.
fn keys(stream: &mut Stream<'_>) -> Result<Vec<Token>, Error> {
    let mut keys = Vec::new();
    let mut begun = false;
    let mut comma = false;
    while let Some(next) = stream.peek() {
        let first = next.first;
        if first && begun && !comma {
            break;
        }
        if next.is("{") {
            if comma {
                stream.take();
                return Err(
                    stream.error("Expected another address but had '{' - check for extra comma")
                );
            }
            break;
        }
        if next.is("import") && first {
            stream.import()?;
            continue;
        }
        if next.is("}") {
            stream.take();
            return Err(stream.error(STRAY_BRACE));
        }
        let Some(next) = stream.take() else { break };
        begun = true;
        let mut key = stream.resolve(next);
        if key.text.is_empty() {
            continue;
        }
        comma = key.text.ends_with(',');
        if comma {
            key.text.pop();
        }
        if !key.text.is_empty() {
            keys.push(key);
        }
    }
    if comma && stream.peek().is_none() {
        return Err(stream.end_error());
    }
    Ok(keys)
}

/// The name of the snippet that the keys begin: exactly one, in parentheses.
fn snippet_name(keys: &[Token]) -> Option<(&str, &Token)> {
    let [key] = keys else { return None };
    let name = key.text.strip_prefix('(')?.strip_suffix(')')?;
    Some((name, key))
}

/// The tokens between the braces of a snippet, as written: they are read where it is imported.
fn snippet(stream: &mut Stream<'_>) -> Result<Vec<Lexeme>, Error> {
    let braced = stream.at("{");
    stream.take();
    if !braced {
        return Err(stream.expected("{"));
    }
    let mut tokens = Vec::new();
    let mut depth = 1u32;
    while let Some(next) = stream.take() {
        if next.is("{") {
            depth = depth.saturating_add(1);
        } else if next.is("}") {
            depth -= 1;
            if depth == 0 {
                return Ok(tokens);
            }
        }
        tokens.push(next);
    }
    Err(stream.expected("}"))
}

/// The directives of a server block: between braces, or without them to the end of the text.
fn directives(stream: &mut Stream<'_>) -> Result<Vec<Directive>, Error> {
    let braced = stream.at("{");
    if braced {
        stream.take();
    }
    let mut directives: Vec<Directive> = Vec::new();
    while let Some(next) = stream.peek() {
        if next.is("import") {
            stream.import()?;
        } else if next.is("}") {
            stream.take();
            if !braced {
                return Err(stream.error(STRAY_BRACE));
            }
            return Ok(directives);
        } else if next.is("{") {
            stream.take();
            return Err(match directives.last() {
                Some(Directive { name, .. }) => stream.error(&format!(
                    "the '{{' of a block must stand on the line of its directive '{name}'"
                )),
                None => stream.error("Unexpected '{', expecting a directive"),
            });
        } else if let Some(name) = stream.take() {
            directives.push(directive(stream, name)?);
        }
    }
    if braced {
        return Err(stream.expected("}"));
    }
    Ok(directives)
}

/// The rest of a directive: its arguments, and its block if there is one.
fn directive(stream: &mut Stream<'_>, name: Lexeme) -> Result<Directive, Error> {
    let mut directive = Directive {
        name: stream.resolve(name),
        args: Vec::new(),
        block: Vec::new(),
    };
    while stream.on_line() && !stream.at("{") {
        let arg = argument(stream, STRAY_BRACE)?;
        directive.args.push(arg);
    }
    if stream.on_line() {
        stream.take();
        directive.block = lines(stream)?;
        if stream.on_line() {
            let after = stream.take();
            return Err(match after {
                Some(after) if after.is("}") => stream.error(STRAY_BRACE),
                _ => stream.error(&format!(
                    "Unexpected text after the '}}' of '{}'",
                    directive.name
                )),
            });
        }
    }
    Ok(directive)
}

/// The option lines of a directive's block, with the closing brace.
fn lines(stream: &mut Stream<'_>) -> Result<Vec<Line>, Error> {
    let mut lines = Vec::new();
    while let Some(next) = stream.peek() {
        if next.is("import") {
            stream.import()?;
        } else if next.is("}") {
            stream.take();
            return Ok(lines);
        } else {
            let name = option_word(stream)?;
            let mut args = Vec::new();
            while stream.on_line() {
                args.push(option_word(stream)?);
            }
            lines.push(Line { name, args });
        }
    }
    Err(stream.end_error())
}

/// A word of an option line.
fn option_word(stream: &mut Stream<'_>) -> Result<Token, Error> {
    if stream.at("{") {
        stream.take();
        return Err(stream.error("Unexpected '{': a block cannot stand inside a directive's block"));
    }
    argument(
        stream,
        "the '}' of a directive's block must stand on a line of its own",
    )
}

/// A word that must not be a closing brace.
fn argument(stream: &mut Stream<'_>, at_brace: &str) -> Result<Token, Error> {
    match stream.take() {
        Some(next) if next.is("}") => Err(stream.error(at_brace)),
        Some(next) => Ok(stream.resolve(next)),
        None => Err(stream.end_error()),
    }
}
