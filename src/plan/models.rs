//! What is known of a provider's models: what the Genfile says of them, then the list of prices that it names, then the table that
//! ships with genmake.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Code, Error, Place};
use crate::files::Files;
use crate::manifest::{Prices, Provider};
use crate::models::{self, List, Model, Price};
use crate::path::RelPath;

/// The lists of prices that a Genfile names, each read once, when something of it is asked for.
#[derive(Default)]
pub struct Models {
    lists: Mutex<HashMap<RelPath, Arc<List>>>,
}

impl Models {
    /// What a model takes and costs at a provider. One on this machine (`is_local`) costs nothing, unless the Genfile says
    /// otherwise; without a price it is unpriced.
    ///
    /// # Errors
    /// A list of prices that is not there, or is none.
    pub fn of(&self, provider: &Provider, model: &str, is_local: bool, files: &dyn Files) -> Result<Model, Error> {
        let known = models::find(model).unwrap_or_default();
        let listed = match &provider.prices {
            Prices::Listed(path, place) => self.list(path, place, files)?.find(model).unwrap_or_default(),
            Prices::Known | Prices::Said(_) => Model::default(),
        };
        let said = match &provider.prices {
            Prices::Said(price) => Some(*price),
            Prices::Known | Prices::Listed(..) => None,
        };
        let free = is_local.then_some(Price::FREE);
        Ok(Model {
            context: provider.limits.context.or(listed.context).or(known.context),
            max_output: provider.limits.max_output.or(listed.max_output).or(known.max_output),
            price: said.or(listed.price).or(free).or(known.price),
            cache: known.cache,
        })
    }

    fn list(&self, path: &RelPath, place: &Place, files: &dyn Files) -> Result<Arc<List>, Error> {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = lists.get(path) {
            return Ok(Arc::clone(list));
        }
        let wrong = |code, what: String| {
            Error::new(code, format!("the list of prices `{path}` {what}"))
                .at(place.clone())
                .hint("it is LiteLLM's `model_prices_and_context_window.json`, or of its form")
        };
        let bytes = files.read(path)?.ok_or_else(|| wrong(Code::MissingInput, "is not there".to_owned()))?;
        let list = List::of_litellm(&String::from_utf8_lossy(&bytes)).map_err(|what| wrong(Code::BadValue, what))?;
        Ok(Arc::clone(lists.entry(path.clone()).or_insert(Arc::new(list))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;

    fn of(keys: &str, model: &str, is_local: bool) -> Result<Model, Error> {
        let text = format!("version: 1\nproviders: {{p: {{api: openai, {keys}}}}}\nrules: {{}}\n");
        let list =
            r#"{"listed": {"input_cost_per_token": 7e-06, "output_cost_per_token": 8e-06, "max_input_tokens": 77}}"#;
        let files: HashMap<RelPath, Arc<[u8]>> = [("list.json", list), ("none.json", "[]")]
            .map(|(path, text)| (RelPath::new(path).unwrap(), Arc::from(text.as_bytes())))
            .into();
        let (manifest, found) = manifest::load("Genfile", &text, &files).unwrap();
        assert_eq!(found, []);
        Models::default().of(&manifest.providers["p"], model, is_local, &files)
    }

    #[test]
    fn what_the_genfile_says_stands_above_lists_and_those_above_the_table() {
        let seen = |keys: &str, model: &str, is_local| {
            let model = of(keys, model, is_local).unwrap();
            (model.price.map(|price| price.input.round()), model.context, model.max_output)
        };
        let known = (Some(1_047_576), Some(32_768));
        assert_eq!(seen("", "gpt-4.1", false), (Some(2.0), known.0, known.1));
        assert_eq!(seen("", "gpt-4.1", true), (Some(0.0), known.0, known.1));
        assert_eq!(seen("", "unknown", false), (None, None, None));
        assert_eq!(seen("", "unknown", true), (Some(0.0), None, None));
        let said = "prices: {input: 3, output: 4}, limits: {context: 100}";
        assert_eq!(seen(said, "gpt-4.1", true), (Some(3.0), Some(100), known.1));
        assert_eq!(seen("limits: {max_output: 5}", "unknown", false), (None, None, Some(5)));
        let listed = "prices: list.json";
        assert_eq!(seen(listed, "listed", true), (Some(7.0), Some(77), None));
        assert_eq!(seen(listed, "gpt-4.1", false), (Some(2.0), known.0, known.1));
        assert_eq!(seen(listed, "gpt-4.1", true).0, Some(0.0));
        assert_eq!(seen(listed, "unknown", false), (None, None, None));
    }

    #[test]
    fn a_list_that_is_none_is_said() {
        let error = |keys| of(keys, "m", false).unwrap_err();
        assert_eq!(error("prices: nowhere.json").code, Code::MissingInput);
        let none = error("prices: none.json");
        assert_eq!(none.code, Code::BadValue);
        assert!(none.place.is_some());
    }
}
