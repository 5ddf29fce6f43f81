//! Digests, and the one way genmake hashes more than one thing at once.

use std::fmt;

// It is small, and fast enough where nothing is optimized; the other uses what processors have for it.
#[cfg(not(feature = "run"))]
use hmac_sha256::Hash as Sha256;
#[cfg(feature = "run")]
use sha2::{Digest as _, Sha256};

/// A sha256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of some bytes: what `sha256sum` prints.
    pub fn of(bytes: impl AsRef<[u8]>) -> Digest {
        let mut hasher = Sha256::new();
        hasher.update(bytes.as_ref());
        Digest(hasher.finalize().into())
    }

    /// Reads 64 hexadecimal digits, lower case; `None` for anything else.
    pub fn parse(text: &str) -> Option<Digest> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let text = text.as_bytes();
        if text.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Digest(bytes))
    }

    /// The first 12 hexadecimal digits, for people.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }

    /// The digest that these are the 32 bytes of.
    pub fn from_bytes(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }

    /// The 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Locks, journals and stores are full of these: each is one write of 64 letters.
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Text in what people may read, 32 bytes in what only genmake does.
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        if !deserializer.is_human_readable() {
            return <[u8; 32]>::deserialize(deserializer).map(Digest);
        }
        let text = String::deserialize(deserializer)?;
        Digest::parse(&text).ok_or_else(|| serde::de::Error::custom("not a sha256"))
    }
}

/// Hashes a sequence of fields so that no two different sequences give the same bytes: each field is framed by its
/// length, and the whole starts with a kind that holds a version. Change what goes in, and the kind's number with it.
pub struct Framed(Sha256);

impl Framed {
    /// Starts a digest of this kind, such as `genmake-action-1`.
    pub fn new(kind: &str) -> Framed {
        Framed(Sha256::new()).field(kind.as_bytes())
    }

    /// Adds one field.
    #[must_use]
    pub fn field(mut self, bytes: impl AsRef<[u8]>) -> Framed {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// The digest of all fields so far.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_sha256_and_reads_its_own_text() {
        let digest = Digest::of("abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        assert_eq!(Digest::parse("BA78"), None);
        assert_eq!(Digest::parse(&"g".repeat(64)), None);
    }

    #[test]
    fn with_and_without_the_feature_run_digests_are_the_same() {
        use sha2::Digest as _;
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for len in 0..=bytes.len() {
            let small = hmac_sha256::Hash::hash(&bytes[..len]);
            assert_eq!(small, <[u8; 32]>::from(sha2::Sha256::digest(&bytes[..len])), "{len}");
        }
    }

    #[test]
    fn framing_tells_fields_apart() {
        let one = Framed::new("t-1").field("ab").field("c").finish();
        let other = Framed::new("t-1").field("a").field("bc").finish();
        assert_ne!(one, other);
        assert_ne!(one, Framed::new("t-2").field("ab").field("c").finish());
    }
}
