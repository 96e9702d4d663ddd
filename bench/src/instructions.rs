//! stub
pub fn run(_: &str, _: impl Iterator<Item = String>) -> Option<Result<(), String>> {
    None
}
