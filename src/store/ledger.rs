//! The ledger's file: what requests took in earlier runs. A damaged or missing one is an empty one: estimates are then rougher, and
//! servers are asked once more for what they refuse.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::write::put;
use crate::error::Error;
use crate::ledger::Ledger;

const NAME: &str = "ledger";

/// Reads the ledger of a `.genmake` folder, without what was too long ago.
pub fn read_ledger(folder: &Path) -> Ledger {
    let bytes = fs_err::read(folder.join(NAME)).unwrap_or_default();
    let mut ledger: Ledger = serde_json::from_slice(&bytes).unwrap_or_default();
    ledger.forget(today());
    ledger
}

/// The days since 1970.
pub fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400)
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
    use crate::ledger::Refuses;

    #[test]
    fn it_is_read_as_written_and_damage_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_ledger(folder.path()), Ledger::default());
        let mut ledger = Ledger::default();
        ledger.note_prompt("m", "words", 10, 12);
        ledger.note_result("r", 12, 34);
        ledger.note_refused("s", "m", Refuses::new(["seed".to_owned()].into(), None), today());
        write_ledger(folder.path(), &ledger).unwrap();
        assert_eq!(read_ledger(folder.path()), ledger);
        let text = fs_err::read_to_string(folder.path().join(NAME)).unwrap();
        for damaged in
            ["", "{", "[]", &text[..text.len() / 2], r#"{"models": {"m": {"estimated": -1}}}"#, r#"{"servers": 1}"#]
        {
            fs_err::write(folder.path().join(NAME), damaged).unwrap();
            assert_eq!(read_ledger(folder.path()), Ledger::default(), "{damaged}");
        }
        // What a later version knows is no damage.
        fs_err::write(folder.path().join(NAME), text.replacen('{', r#"{"more": 1,"#, 1)).unwrap();
        assert_eq!(read_ledger(folder.path()), ledger);
    }
}
