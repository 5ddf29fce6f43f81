//! Providers where the crate is built without the `net` feature: there are none.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::round::{Entry, Returned, Sought, Standing};
use super::{Failure, FailureKind, Heard, Notice, Recording};
use crate::cancel::Cancel;
use crate::error::{Code, Error};
use crate::llm::EmbedLimits;
use crate::llm::{Answer, EmbedRequest, Embedded, Request};
use crate::manifest;
use crate::shell::Shell;

/// A provider that cannot be made.
pub struct Provider;

impl Provider {
    /// Refuses.
    ///
    /// # Errors
    /// [`Code::Offline`], always.
    pub fn new(
        declared: &manifest::Provider,
        _: &Path,
        _: &dyn Fn(&str) -> Option<String>,
        _: &[String],
        _: &Shell,
        _: Cancel,
    ) -> Result<Provider, Error> {
        let message =
            format!("provider `{}` cannot be asked: genmake is built without the `net` feature", declared.name);
        Err(Error::new(Code::Offline, message).at(declared.place.clone()))
    }

    /// Nothing is asked.
    pub fn learn(&self, _: &str, _: impl IntoIterator<Item = String>, _: Option<u64>) {}

    /// Nothing was refused.
    pub fn refused(&self) -> Vec<(String, BTreeSet<String>, Option<u64>)> {
        Vec::new()
    }

    /// Nothing is to be brought up.
    ///
    /// # Errors
    /// Never.
    pub fn bring_up(&self, _: &dyn Fn(Notice)) -> Result<(), Error> {
        Ok(())
    }

    /// Never called: there is no provider to call it on.
    ///
    /// # Errors
    /// Always.
    pub fn send(
        &self,
        _: &Request,
        _: &mut dyn FnMut(Heard<'_>) -> bool,
        _: &dyn Fn(Notice),
    ) -> Result<Answer, Failure> {
        Err(none())
    }

    /// Never called, as [`Provider::send`].
    ///
    /// # Errors
    /// Always.
    pub fn embed(&self, _: &EmbedRequest, _: &dyn Fn(Notice)) -> Result<Embedded, Failure> {
        Err(none())
    }

    /// Never called, as [`Provider::send`].
    ///
    /// # Errors
    /// Always.
    pub fn parcels(&self, _: &[Entry]) -> Result<Vec<usize>, Failure> {
        Err(none())
    }

    /// Never called, as [`Provider::send`].
    ///
    /// # Errors
    /// Always.
    pub fn submit(&self, _: &str, _: &[Entry]) -> Result<String, Failure> {
        Err(none())
    }

    /// Never called, as [`Provider::send`].
    ///
    /// # Errors
    /// Always.
    pub fn find_round(&self, _: &Sought<'_>) -> Result<Option<String>, Failure> {
        Err(none())
    }

    /// Nothing is found.
    pub fn finds_surely(&self) -> bool {
        false
    }

    /// Never called, as [`Provider::send`].
    ///
    /// # Errors
    /// Always.
    pub fn standing(&self, _: &str) -> Result<Standing, Failure> {
        Err(none())
    }

    /// Never called, as [`Provider::send`].
    ///
    /// # Errors
    /// Always.
    pub fn fetch(&self, _: &str) -> Result<Vec<Returned>, Failure> {
        Err(none())
    }

    /// Never called, as [`Provider::send`].
    ///
    /// # Errors
    /// Always.
    pub fn cancel_round(&self, _: &str) -> Result<(), Failure> {
        Err(none())
    }

    /// Nothing is counted.
    pub fn count(&self, _: &Request, _: &dyn Fn(Notice)) -> Option<u64> {
        None
    }

    /// Nothing is marked.
    pub fn marks_prefix(&self) -> bool {
        false
    }

    /// Nothing is recorded: nothing was answered.
    pub fn recording(&self, _: &Request, _: &Answer) -> Option<Recording> {
        None
    }

    /// Nothing is recorded, as above.
    pub fn embed_recording(&self, _: &EmbedRequest, _: &Embedded) -> Option<Recording> {
        None
    }

    /// Nothing was brought up.
    pub fn take_down(&self) {}
}

fn none() -> Failure {
    Failure::new(FailureKind::Refused, "built without the `net` feature")
}

/// Nothing is asked for.
pub fn most_results(_: &manifest::Provider, _: &str, _: &Value) -> Option<usize> {
    None
}

/// Nothing makes vectors.
pub fn embed_limits(_: &manifest::Provider, _: &str) -> Option<EmbedLimits> {
    None
}

/// Whether asking a provider stays on this machine: nothing is asked of any.
pub fn is_local(_: &manifest::Provider) -> bool {
    false
}
