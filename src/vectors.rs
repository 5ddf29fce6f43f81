//! Vectors: rows of numbers of one length, how near they are to each other, and their files.
//!
//! Knows not what they stand for, nor who gave them.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fmt;
use std::io::{Result, Write};

use serde_json::Value;

/// Rows of numbers, all of one length.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    dimensions: usize,
    count: usize,
    values: Vec<f32>,
}

/// A row of another length than those before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// How many numbers it has.
    pub has: usize,
    /// How many it should have.
    pub wanted: usize,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a vector has {} dimensions and should have {}", self.has, self.wanted)
    }
}

impl std::error::Error for Misfit {}

impl Vectors {
    /// No rows yet, each to have so many numbers.
    pub fn new(dimensions: usize) -> Vectors {
        Vectors { dimensions, count: 0, values: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// [`Misfit`], and nothing is added.
    pub fn push(&mut self, row: &[f32]) -> std::result::Result<(), Misfit> {
        if row.len() != self.dimensions {
            return Err(Misfit { has: row.len(), wanted: self.dimensions });
        }
        self.values.extend(row);
        self.count += 1;
        Ok(())
    }

    /// How many numbers each row has.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The rows, in their order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> + Clone {
        (0..self.count).map(|row| &self.values[row * self.dimensions..(row + 1) * self.dimensions])
    }

    /// Writes them as NumPy's `.npy`, an array of the shape (rows, dimensions): byte for byte what `numpy.save` writes.
    ///
    /// Format 1.0 of NEP 1 and `numpy.lib.format`: `\x93NUMPY`, the version, the header's length in two bytes, a header in Python's
    /// words that ends with a line break on a multiple of 64 bytes, then the numbers, here `<f4`, little-endian.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_npy(&self, out: &mut dyn Write) -> Result<()> {
        let header = format!("{{{DESCR} {ORDER} 'shape': ({}, {}), }}", self.count, self.dimensions);
        let start = MAGIC.len() + 2;
        let len = (start + header.len() + 1).next_multiple_of(64) - start;
        out.write_all(MAGIC)?;
        // Two numbers of at most twenty digits each: 192 bytes at most.
        out.write_all(&u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes())?;
        writeln!(out, "{header:<width$}", width = len - 1)?;
        for some in self.values.chunks(4096) {
            let bytes: Vec<u8> = some.iter().flat_map(|value| value.to_le_bytes()).collect();
            out.write_all(&bytes)?;
        }
        Ok(())
    }

    /// Reads what [`Vectors::write_npy`] wrote, or `numpy.save` of such an array.
    ///
    /// # Errors
    /// Why that is none, in words.
    pub fn read_npy(bytes: &[u8]) -> std::result::Result<Vectors, String> {
        let rest = bytes.strip_prefix(MAGIC).ok_or("it is no `.npy` file of format 1.0")?;
        let cut = || "it is cut in its header".to_owned();
        let (len, rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
        let (header, data) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len))).ok_or_else(cut)?;
        let header = String::from_utf8_lossy(header);
        if !header.contains(DESCR) || !header.contains(ORDER) {
            return Err("its numbers are not `<f4`, row by row".to_owned());
        }
        let shape = header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')'));
        let shape: Option<Vec<usize>> =
            shape.and_then(|(shape, _)| shape.split(", ").map(|n| n.parse().ok()).collect());
        let Some(&[count, dimensions]) = shape.as_deref() else {
            return Err("its shape is not that of rows".to_owned());
        };
        let (numbers, rest) = data.as_chunks::<4>();
        if count.checked_mul(dimensions) != Some(numbers.len()) || !rest.is_empty() {
            return Err(format!("it has not the {count} rows of {dimensions} numbers that it says"));
        }
        Ok(Vectors { dimensions, count, values: numbers.iter().map(|four| f32::from_le_bytes(*four)).collect() })
    }
}

/// What a `.npy` file of format 1.0 begins with.
const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
const DESCR: &str = "'descr': '<f4',";
const ORDER: &str = "'fortran_order': False,";

/// The cosine of the angle between two vectors, `a·b / (|a| |b|)`: 1 for one direction, -1 for opposite ones, 0 where one of them is
/// all zeros. `None` where their lengths differ or a number is not finite.
pub fn cosine(a: &[f32], b: &[f32]) -> Option<f32> {
    near(a, norm(a), b)
}

/// The `k` of the rows that are nearest to a vector by [`cosine`], each by its place and how near it is; the nearest first, of two as
/// near the earlier. Rows that have no cosine with it are none of them.
pub fn nearest<'a>(query: &[f32], rows: impl IntoIterator<Item = &'a [f32]>, k: usize) -> Vec<(usize, f32)> {
    let query_norm = norm(query);
    // The worst of the best so far is on top.
    let mut best: BinaryHeap<Reverse<Near>> = BinaryHeap::new();
    for (row, vector) in rows.into_iter().enumerate() {
        let Some(score) = near(query, query_norm, vector) else { continue };
        let found = Near { score, row };
        if best.len() < k {
            best.push(Reverse(found));
        } else if let Some(mut worst) = best.peek_mut()
            && found > worst.0
        {
            *worst = Reverse(found);
        }
    }
    best.into_sorted_vec().into_iter().map(|Reverse(Near { score, row })| (row, score)).collect()
}

/// In doubles, in which no product of such numbers is too large or too small.
fn norm(a: &[f32]) -> f64 {
    a.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
}

fn near(a: &[f32], a_norm: f64, b: &[f32]) -> Option<f32> {
    let b_norm = norm(b);
    if a.len() != b.len() || !a_norm.is_finite() || !b_norm.is_finite() {
        return None;
    }
    if a_norm == 0.0 || b_norm == 0.0 {
        return Some(0.0);
    }
    let product: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    // Zero has one sign only, so that such rows are as near as each other.
    Some((product / (a_norm * b_norm)).clamp(-1.0, 1.0) as f32 + 0.0)
}

/// A row and how near it is; the better is the greater.
struct Near {
    score: f32,
    row: usize,
}

impl Ord for Near {
    fn cmp(&self, other: &Near) -> Ordering {
        self.score.total_cmp(&other.score).then(other.row.cmp(&self.row))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Near) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Near {
    fn eq(&self, other: &Near) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Near {}

/// A vector as JSON: of each number the shortest decimal that reads back as it, `0.1` and not `0.10000000149011612`. What is not
/// finite is null.
pub fn to_json(vector: &[f32]) -> Value {
    vector.iter().map(|value| Value::from(shortest(*value))).collect()
}

/// The double whose shortest decimal is that of `value`.
fn shortest(value: f32) -> f64 {
    match value.to_string().parse() {
        Ok(double) if double as f32 == value => double,
        _ => value.into(),
    }
}

/// The vector that stands in JSON; `None` if it is no list of numbers, or one is too large.
pub fn from_json(value: &Value) -> Option<Vec<f32>> {
    let number = |value: &Value| value.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
    value.as_array()?.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn vectors(dimensions: usize, rows: &[&[f32]]) -> Vectors {
        let mut vectors = Vectors::new(dimensions);
        rows.iter().for_each(|row| vectors.push(row).unwrap());
        vectors
    }

    fn npy(vectors: &Vectors) -> Vec<u8> {
        let mut out = Vec::new();
        vectors.write_npy(&mut out).unwrap();
        out
    }

    #[test]
    fn rows_are_of_one_length() {
        let mut vectors = vectors(2, &[&[1.0, 2.0]]);
        let misfit = vectors.push(&[1.0]).unwrap_err();
        assert_eq!(misfit.to_string(), "a vector has 1 dimensions and should have 2");
        vectors.push(&[3.0, 4.0]).unwrap();
        assert_eq!(vectors.rows().collect::<Vec<_>>(), [[1.0, 2.0], [3.0, 4.0]]);
        assert_eq!((vectors.len(), vectors.dimensions(), vectors.is_empty()), (2, 2, false));
        assert_eq!(self::vectors(0, &[&[], &[]]).rows().collect::<Vec<_>>(), [&[0_f32; 0], &[]]);
    }

    #[test]
    fn cosines() {
        let cosine = |a: &[f32], b: &[f32]| super::cosine(a, b);
        assert_eq!(cosine(&[1.0, 2.0], &[2.0, 4.0]), Some(1.0));
        assert_eq!(cosine(&[1.0, 0.0], &[-3.0, 0.0]), Some(-1.0));
        assert_eq!(cosine(&[1.0, 0.0], &[1.0, 1.0]), Some(std::f32::consts::FRAC_1_SQRT_2));
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, -1.0]).map(f32::to_bits), Some(0));
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 1.0]), Some(0.0));
        assert_eq!(cosine(&[], &[]), Some(0.0));
        assert_eq!(cosine(&[f32::MAX, f32::MAX], &[f32::MAX, f32::MAX]), Some(1.0));
        assert_eq!(cosine(&[1e-45, 0.0], &[1e-45, 0.0]), Some(1.0));
        assert_eq!(cosine(&[1.0], &[1.0, 2.0]), None);
        assert_eq!(cosine(&[0.0], &[f32::INFINITY]), None);
        assert_eq!(cosine(&[f32::NAN], &[1.0]), None);
    }

    #[test]
    fn the_nearest_come_first() {
        let rows: [&[f32]; 7] =
            [&[0.0, 1.0], &[1.0, 1.0], &[f32::NAN, 1.0], &[2.0, 2.0], &[0.0, 0.0], &[-1.0, 0.0], &[3.0]];
        let nearest = |k| super::nearest(&[1.0, 0.0], rows, k);
        let near = std::f32::consts::FRAC_1_SQRT_2;
        assert_eq!(nearest(9), [(1, near), (3, near), (0, 0.0), (4, 0.0), (5, -1.0)]);
        assert_eq!(nearest(1), [(1, near)]);
        assert_eq!(nearest(3), [(1, near), (3, near), (0, 0.0)]);
        assert_eq!(nearest(0), []);
        assert_eq!(super::nearest(&[f32::NAN, 0.0], rows, 3), []);
        assert_eq!(super::nearest(&[1.0], [], 3), []);
    }

    #[test]
    fn files_are_those_of_numpy() {
        // As NumPy 2.4 writes `numpy.array([[1, 2, .1], [-0., 4, 5]], dtype="<f4")`.
        let mut want = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }".to_vec();
        want.resize(127, b' ');
        want.push(b'\n');
        want.extend(
            b"\x00\x00\x80\x3f\x00\x00\x00\x40\xcd\xcc\xcc\x3d\x00\x00\x00\x80\x00\x00\x80\x40\x00\x00\xa0\x40",
        );
        let vectors = vectors(3, &[&[1.0, 2.0, 0.1], &[-0.0, 4.0, 5.0]]);
        assert_eq!(npy(&vectors), want);
        assert_eq!(Vectors::read_npy(&want), Ok(vectors));
        for len in 0..want.len() {
            assert!(Vectors::read_npy(&want[..len]).is_err(), "{len}");
        }
        want.push(0);
        assert_eq!(Vectors::read_npy(&want).unwrap_err(), "it has not the 2 rows of 3 numbers that it says");
        let header = |header: &str| {
            let len = u16::try_from(header.len()).unwrap().to_le_bytes();
            Vectors::read_npy(&[MAGIC, &len, header.as_bytes()].concat())
        };
        assert_eq!(header("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 7), }\n"), Ok(Vectors::new(7)));
        for wrong in [
            "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 7), }\n",
            "{'descr': '<f4', 'fortran_order': True, 'shape': (0, 7), }\n",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }\n",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (), }\n",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551615, 2), }\n",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 0), }\n",
        ] {
            assert!(header(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_short_in_json() {
        let vector = [0.1, 1.0, -0.0, 1e-9, 16_777_216.0, f32::MAX, f32::MIN_POSITIVE, 1e-45, 0.333_333_34];
        let text = to_json(&vector).to_string();
        assert_eq!(text, "[0.1,1.0,-0.0,1e-9,16777216.0,3.4028235e+38,1.1754944e-38,1e-45,0.33333334]");
        assert_eq!(from_json(&serde_json::from_str(&text).unwrap()).unwrap(), vector);
        assert_eq!(to_json(&[f32::NAN, f32::INFINITY]), json!([null, null]));
        assert_eq!(from_json(&json!([1, 2.5, -3])), Some(vec![1.0, 2.5, -3.0]));
        for none in [json!([null]), json!(["1"]), json!({}), json!([1e300]), json!([[1]])] {
            assert_eq!(from_json(&none), None, "{none}");
        }
    }

    fn numbers() -> impl Strategy<Value = f32> {
        prop_oneof![any::<u32>().prop_map(f32::from_bits), -1.0_f32..1.0, Just(0.0), Just(1.0)]
    }

    proptest! {
        #[test]
        fn npy_reads_back(rows in prop::collection::vec(prop::collection::vec(numbers(), 5), 0..20)) {
            let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let vectors = vectors(5, &rows);
            let bytes = npy(&vectors);
            prop_assert_eq!((bytes.len() - rows.len() * 20) % 64, 0);
            let read = Vectors::read_npy(&bytes).unwrap();
            prop_assert_eq!(npy(&read), bytes);
        }

        #[test]
        fn json_reads_back(vector in prop::collection::vec(numbers().prop_filter("finite", |n| n.is_finite()), 0..50)) {
            let text = to_json(&vector).to_string();
            let read = from_json(&serde_json::from_str(&text).unwrap()).unwrap();
            prop_assert_eq!(read.iter().map(|n| n.to_bits()).collect::<Vec<_>>(), vector.iter().map(|n| n.to_bits()).collect::<Vec<_>>());
            // No number takes more digits than it does by itself.
            for number in &vector {
                let (by_itself, here) = (serde_json::to_string(number).unwrap(), Value::from(shortest(*number)).to_string());
                let digits = |text: &str| {
                    let digits: String = text.split('e').next().unwrap().chars().filter(char::is_ascii_digit).collect();
                    digits.trim_matches('0').len()
                };
                prop_assert!(digits(&here) <= digits(&by_itself), "{} {}", here, by_itself);
            }
        }

        #[test]
        fn the_nearest_are_those_that_sorting_gives(
            query in prop::collection::vec(numbers(), 3),
            rows in prop::collection::vec(prop::collection::vec(prop_oneof![numbers(), Just(1.0), Just(-1.0)], 3), 0..40),
            k in 0_usize..50,
        ) {
            let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let mut all: Vec<(usize, f32)> =
                rows.iter().enumerate().filter_map(|(at, row)| Some((at, cosine(&query, row)?))).collect();
            prop_assert!(all.iter().all(|(_, score)| (-1.0..=1.0).contains(score)));
            all.sort_by(|a, b| b.1.total_cmp(&a.1));
            all.truncate(k);
            prop_assert_eq!(nearest(&query, rows.iter().copied(), k), all);
        }
    }
}
