//! The ledger's file: what requests took in earlier runs. A damaged or missing one is an empty one: estimates are then rougher.

use std::path::Path;

use super::write::put;
use crate::error::Error;
use crate::ledger::Ledger;

const NAME: &str = "ledger";

/// Reads the ledger of a `.genmake` folder.
pub fn read_ledger(folder: &Path) -> Ledger {
    let bytes = fs_err::read(folder.join(NAME)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Writes the ledger of a `.genmake` folder, whole or not at all.
///
/// # Errors
/// It cannot be written.
pub fn write_ledger(folder: &Path, ledger: &Ledger) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(ledger).unwrap_or_default();
    text.push('\n');
    put(&folder.join(NAME), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_written_and_damage_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_ledger(folder.path()), Ledger::default());
        let mut ledger = Ledger::default();
        ledger.note_prompt("m", "words", 10, 12);
        ledger.note_result("r", 12, 34);
        write_ledger(folder.path(), &ledger).unwrap();
        assert_eq!(read_ledger(folder.path()), ledger);
        let text = fs_err::read_to_string(folder.path().join(NAME)).unwrap();
        for damaged in ["", "{", "[]", &text[..text.len() / 2], r#"{"models": {"m": {"estimated": -1}}}"#] {
            fs_err::write(folder.path().join(NAME), damaged).unwrap();
            assert_eq!(read_ledger(folder.path()), Ledger::default(), "{damaged}");
        }
        // What a later version knows is no damage.
        fs_err::write(folder.path().join(NAME), text.replacen('{', r#"{"more": 1,"#, 1)).unwrap();
        assert_eq!(read_ledger(folder.path()), ledger);
    }
}
