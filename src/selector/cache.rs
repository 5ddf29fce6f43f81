//! Files as selectors need them, each parsed once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::data::{is_data, parse};
use super::definitions::Definitions;
use super::sections::{Sections, is_markdown};
use super::{Part, Selector, What, pointer};
use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::files::Files;
use crate::path::RelPath;

/// Parsed files by content, so that ten thousand tasks over one file parse it once.
#[derive(Default)]
pub struct DataCache(Mutex<HashMap<(RelPath, Digest), Parsed>>);

/// A file's extension says which of these it is.
#[derive(Clone)]
enum Parsed {
    Data(Arc<Value>),
    Sections(Arc<Sections>),
    Definitions(Arc<Definitions>),
}

impl Parsed {
    fn new(path: &RelPath, text: String) -> Result<Parsed, Error> {
        if is_data(path) {
            return Ok(Parsed::Data(Arc::new(parse(path, &text)?)));
        }
        if is_markdown(path) {
            return Ok(Parsed::Sections(Arc::new(Sections::new(text))));
        }
        match Definitions::new(path.ext(), text) {
            Ok(found) => Ok(Parsed::Definitions(Arc::new(found))),
            Err(e) => Err(Error::new(Code::Unreadable, format!("`{path}` has no parts: {e}"))),
        }
    }
}

impl DataCache {
    /// The value of a data file, `None` if there is no file of that name.
    ///
    /// # Errors
    /// As [`Files::text`] and [`parse`]; for a file that is no data as well.
    pub fn get(&self, files: &dyn Files, path: &RelPath) -> Result<Option<Arc<Value>>, Error> {
        match self.parsed(files, path)? {
            Some(Parsed::Data(value)) => Ok(Some(value)),
            Some(Parsed::Sections(_) | Parsed::Definitions(_)) => parse(path, "").map(|_| None),
            None => Ok(None),
        }
    }

    /// The parts of a file that a selector finds, in the order of the file; `None` if there is no file of that name.
    ///
    /// # Errors
    /// As [`Files::text`] and [`parse`]; [`Code::BadSelector`] where a named part is not there, or the file has no such parts.
    pub fn select(&self, files: &dyn Files, path: &RelPath, selector: &Selector) -> Result<Option<Vec<Part>>, Error> {
        selector.fits(path)?;
        let found = match (self.parsed(files, path)?, &selector.what) {
            (Some(Parsed::Data(value)), What::Pointer(steps)) => pointer::select(&value, steps).map_err(|e| (e, None)),
            (Some(Parsed::Sections(sections)), What::Sections(headings)) => sections.select(headings),
            (Some(Parsed::Definitions(definitions)), What::Definitions(name)) => definitions.select(name.as_deref()),
            // What fits is parsed as what it is.
            _ => return Ok(None),
        };
        found.map(Some).map_err(|(what, hint)| {
            let label = selector.label(path, &[]);
            Error::new(Code::BadSelector, format!("`{label}` finds nothing: {what}")).hint_if(hint)
        })
    }

    fn parsed(&self, files: &dyn Files, path: &RelPath) -> Result<Option<Parsed>, Error> {
        let Some(digest) = files.digest(path)? else { return Ok(None) };
        let key = (path.clone(), digest);
        if let Some(parsed) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Some(parsed.clone()));
        }
        let Some(text) = files.text(path)? else { return Ok(None) };
        let parsed = Parsed::new(path, text)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, parsed.clone());
        Ok(Some(parsed))
    }
}
