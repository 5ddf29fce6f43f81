//! Units of length.

#![doc = include_str!("../docs/metre.md")]
#![doc = include_str!("../docs/inch.md")]
#![doc = include_str!("../docs/nautical-mile.md")]

include!(concat!(env!("OUT_DIR"), "/table.rs"));

/// How many metres one of a unit is.
pub fn metres(unit: &str) -> Option<f64> {
    UNITS.iter().find(|(name, symbol, _)| *name == unit || *symbol == unit).map(|(.., factor)| *factor)
}
