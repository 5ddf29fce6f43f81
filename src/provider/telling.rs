//! Tells a server what is no task's request: JSON, to an address that a person's environment names.

use std::time::Duration;

use serde_json::Value;
use ureq::http::Uri;

use super::http::Http;

/// Sends JSON with these headers, and waits for the answer. `env` reads the environment.
///
/// # Errors
/// In words in which neither headers nor what the address holds beside its host are shown.
pub fn tell(
    address: &str,
    headers: &[(String, String)],
    body: &Value,
    timeout: Duration,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(), String> {
    let uri: Uri = address.parse().map_err(|_| "its address is none".to_owned())?;
    let (Some(scheme @ ("http" | "https")), Some(place)) = (uri.scheme_str(), uri.authority()) else {
        return Err("its address is neither http:// nor https://".to_owned());
    };
    if place.as_str().contains('@') {
        return Err("its address holds a name or a password: say them in a header".to_owned());
    }
    let http = Http::new(&format!("{scheme}://{place}"), None, 1, timeout, env).map_err(|e| e.message)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    match http.tell(path, headers, body).map_err(|failure| failure.message)? {
        200..300 => Ok(()),
        status => Err(format!("`{}` answered with status {status}", uri.host().unwrap_or_default())),
    }
}
