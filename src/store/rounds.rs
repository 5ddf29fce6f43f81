//! Rounds that are under way, each in a sealed file of its own below `.genmake/store/rounds`. One is noted before it is handed in,
//! and forgotten when all that it brought is stored.

use std::collections::HashSet;

use super::blobs::{Store, seal, unseal};
use super::unreadable;
use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::rounds::Round;

const FOLDER: &str = "rounds";

impl Store {
    /// The rounds that are under way, the oldest first.
    ///
    /// # Errors
    /// [`Code::Unreadable`]; [`Code::BadRound`] for one that is damaged: it may have been paid for.
    pub fn rounds(&self) -> Result<Vec<Round>, Error> {
        let folder = self.folder().join(FOLDER);
        let entries = match fs_err::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(unreadable(&e)),
        };
        let mut rounds: Vec<Round> = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| unreadable(&e))?.path();
            let bytes = fs_err::read(&path).map_err(|e| unreadable(&e))?;
            rounds.push(unseal(&bytes).ok_or_else(|| {
                let what = format!("`{}` is damaged: it says what was sent to a provider's batch API", path.display());
                Error::new(Code::BadRound, what).hint("delete it, and what it was for is asked for again")
            })?);
        }
        rounds.sort_by(|a, b| (a.begun, &a.name).cmp(&(b.begun, &b.name)));
        Ok(rounds)
    }

    /// Notes a round, durably.
    ///
    /// # Errors
    /// [`Code::Unwritable`], naming the path.
    pub fn put_round(&self, round: &Round) -> Result<(), Error> {
        self.write(&[(self.folder().join(FOLDER).join(&round.name), &seal(round))])
    }

    /// Forgets a round.
    ///
    /// # Errors
    /// [`Code::Unwritable`], naming the path.
    pub fn forget_round(&self, round: &Round) -> Result<(), Error> {
        super::forget(&self.folder().join(FOLDER).join(&round.name))
    }

    /// The action keys of all that is under way, as it was when that was first asked.
    ///
    /// # Errors
    /// As [`Store::rounds`].
    pub fn submitted(&self) -> Result<&HashSet<Digest>, Error> {
        let read = || {
            let rounds = self.rounds()?;
            Ok(rounds.iter().flat_map(Round::keys).collect())
        };
        self.submitted.get_or_init(read).as_ref().map_err(Clone::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Stored as _;
    use crate::rounds::{Posted, Wanted};

    fn round(name: &str, begun: u64, key: &Digest) -> Round {
        let wanted = Wanted {
            key: *key,
            rule: "r".into(),
            outputs: vec![(None, "a".into())],
            user: "u".into(),
            schema: None,
            piece: None,
        };
        let posted = Posted {
            id: key.to_string(),
            counter: "words".into(),
            tokens: 3,
            prefix_saved: 0,
            context_saved: 0,
            tasks: vec![wanted],
        };
        Round {
            name: name.into(),
            provider: "p".into(),
            at: "http://x".into(),
            lock: "Genfile.lock".into(),
            model: "m".into(),
            is_likely: false,
            id: None,
            not: vec![],
            begun,
            price: None,
            requests: vec![posted],
        }
    }

    #[test]
    fn rounds_are_noted_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = || Store::new(dir.path().join("store"));
        let (a, b) = (Digest::of("a"), Digest::of("b"));
        assert_eq!(store().rounds().unwrap(), []);
        assert!(!store().is_submitted(&a));
        let (late, early) = (round("late", 7, &a), round("zearly", 5, &b));
        store().put_round(&late).unwrap();
        store().put_round(&early).unwrap();
        assert_eq!(store().rounds().unwrap(), [early.clone(), late.clone()]);
        assert!(store().is_submitted(&a) && store().is_submitted(&b));
        let named = Round { id: Some("batch_1".into()), ..early };
        store().put_round(&named).unwrap();
        store().forget_round(&late).unwrap();
        store().forget_round(&late).unwrap();
        assert_eq!(store().rounds().unwrap(), [named]);
        assert!(!store().is_submitted(&a));
        fs_err::write(dir.path().join("store/rounds/zearly"), b"oops").unwrap();
        assert_eq!(store().rounds().unwrap_err().code, Code::BadRound);
    }
}
