//! Environment variables in tokens: `{%NAME%}` and `{$NAME}` (CF-20 … CF-24).

/// Where the values come from: the process, or a test.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// `text` with its variables replaced; one that is not set becomes the empty string.
///
/// A value is not searched for further variables of its own spelling, so this always ends.
pub(super) fn substitute(text: &str, env: Env<'_>) -> String {
    replace(&replace(text, "{%", "%}", env), "{$", "}", env)
}

fn replace(text: &str, open: &str, close: &str, env: Env<'_>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once(open) {
        let Some((name, after)) = tail.split_once(close) else {
            break;
        };
        out.push_str(before);
        if name.is_empty() {
            out.extend([open, close]);
        } else {
            out.push_str(&env(name).unwrap_or_default());
        }
        rest = after;
    }
    out + rest
}
