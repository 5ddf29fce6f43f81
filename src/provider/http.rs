//! HTTP: the only place that names ureq. Keep-alive, timeouts, no redirects, proxies but for loopback.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::{HeaderMap, Uri};

use super::live::Secret;
use super::{Failure, FailureKind};

/// The longest answer that is read, in bytes.
const MAX_BODY: u64 = 64 << 20;

/// One provider's address, key and connections.
pub(super) struct Http {
    agent: Agent,
    base_url: String,
    key: Option<Secret>,
}

/// A provider's reply, whatever its status.
pub(super) struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Http {
    pub fn new(base_url: &str, key: Option<Secret>, in_flight: usize, timeout: Duration) -> Http {
        let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build();
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect could carry the key elsewhere, and would turn a POST into a GET.
            .max_redirects(0)
            .max_idle_connections(in_flight + 1)
            .max_idle_connections_per_host(in_flight + 1)
            .timeout_connect(Some(timeout.min(Duration::from_secs(20))))
            .timeout_global(Some(timeout))
            .user_agent(concat!("genmake/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls);
        if is_loopback(base_url) {
            config = config.proxy(None);
        }
        Http { agent: config.build().into(), base_url: base_url.to_owned(), key }
    }

    /// Whether this is OpenAI itself, and not one of the many that speak its language.
    pub fn is_openai(&self) -> bool {
        host(&self.base_url) == "api.openai.com"
    }

    /// Whether the address is on this machine.
    pub fn is_local(&self) -> bool {
        is_loopback(&self.base_url)
    }

    /// The status with which the address answers, if anything does.
    pub fn answers(&self) -> Option<u16> {
        let request = self.agent.get(&self.base_url).config().timeout_global(Some(Duration::from_secs(2))).build();
        request.call().ok().map(|response| response.status().as_u16())
    }

    /// A text without the key: providers like to quote it back.
    pub fn without_key(&self, text: &str) -> String {
        match &self.key {
            Some(Secret(key)) => text.replace(key.as_str(), "***"),
            None => text.to_owned(),
        }
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Reply, Failure> {
        let mut request = self.agent.post(format!("{}{path}", self.base_url));
        if let Some(Secret(key)) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut response = request.send_json(body).map_err(|e| self.failure(&e))?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = response.body_mut().with_config().limit(MAX_BODY).read_to_vec().map_err(|e| self.failure(&e))?;
        // Before anything of it is cut out and shown.
        let body = match std::str::from_utf8(&body) {
            Ok(text) => self.without_key(text).into_bytes(),
            Err(_) => body,
        };
        Ok(Reply { status, headers, body })
    }

    fn failure(&self, error: &ureq::Error) -> Failure {
        use std::io::ErrorKind as Io;
        let address = host(&self.base_url);
        let (kind, message) = match error {
            ureq::Error::Timeout(what) => (FailureKind::Timeout, format!("`{address}` took too long ({what})")),
            ureq::Error::HostNotFound => (FailureKind::Unreachable, format!("no host `{address}`")),
            ureq::Error::ConnectionFailed => (FailureKind::Unreachable, format!("cannot connect to `{address}`")),
            ureq::Error::Io(e) if e.kind() == Io::ConnectionRefused => {
                (FailureKind::Unreachable, format!("nothing listens at `{}`", self.base_url))
            }
            ureq::Error::Io(e) if e.kind() == Io::TimedOut => (FailureKind::Timeout, e.to_string()),
            ureq::Error::BodyExceedsLimit(_) => {
                (FailureKind::Rejected, format!("the answer is larger than {} MB", MAX_BODY >> 20))
            }
            ureq::Error::Io(e) => (FailureKind::Cut, format!("the connection to `{address}` broke: {e}")),
            ureq::Error::Protocol(e) => (FailureKind::Cut, format!("the connection to `{address}` broke: {e}")),
            other => (FailureKind::Unreachable, format!("cannot ask `{address}`: {other}")),
        };
        Failure::new(kind, message)
    }
}

/// The host of an address in lower case, without user, port and path; empty if there is none.
pub(super) fn host(url: &str) -> String {
    let uri: Option<Uri> = url.parse().ok();
    uri.and_then(|uri| uri.host().map(str::to_ascii_lowercase)).unwrap_or_default()
}

/// Whether an address is on this machine.
pub fn is_loopback(url: &str) -> bool {
    let host = host(url);
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}
