//! The engine itself: what is wrong is found, with its line.

use super::{FILES, FOLDER, run};

#[test]
fn every_file_is_run() {
    let folder = format!("{}/{FOLDER}", env!("CARGO_MANIFEST_DIR"));
    let mut there: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut run: Vec<_> = FILES.iter().map(|name| format!("{name}.scenario")).collect();
    there.sort();
    run.sort();
    assert_eq!(there, run);
}
