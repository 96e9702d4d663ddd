//! Any text as a Corefile: it ends, does not panic, and gives the same tree every time.
//!
//! The text is that of the Corefile and of every file that it can import; nothing but memory is
//! read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan::corefile::keys::Key;
use portolan::corefile::{Memory, parse_with};
use portolan::plugins::legacy;
use std::path::PathBuf;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    // What stands behind a NUL is an imported file's.
    let (main, imported) = text.split_once('\0').unwrap_or((&text, ""));
    let files = Memory(
        [("/f", imported), ("/g/a", main), ("/g/b", imported)]
            .map(|(path, text)| (PathBuf::from(path), text.to_owned()))
            .into(),
    );
    let env = |name: &str| (name.len() < 4).then(|| imported.chars().take(8).collect());
    let read = || parse_with("Corefile", main, &env, &files);
    let first = read();
    assert_eq!(first, read());
    match first {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(mut corefile) => {
            assert_eq!(corefile.fingerprint().len(), 128);
            for key in corefile.blocks.iter().flat_map(|block| &block.keys) {
                let _ = Key::parse(key, 53);
            }
            legacy::modernise(&mut corefile);
            // What has been made modern has nothing old left.
            assert!(legacy::modernise(&mut corefile).is_empty());
        }
    }
});
