//! HTTP: the only place that names ureq. Keep-alive, timeouts, no redirects, proxies but for loopback.

use std::io::Read as _;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, Uri};
use ureq::{Agent, BodyReader, RequestBuilder};

use super::live::Secret;
use super::mask::Mask;
use super::wire::Wire;
use super::{Failure, FailureKind};
use crate::digest::Digest;

/// The longest answer that is read, in bytes.
const MAX_BODY: u64 = 64 << 20;

/// The longest results of a round that are read, in bytes.
const MAX_RESULTS: u64 = 1 << 30;

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

/// A reply whose body is still to come.
pub(super) struct Incoming {
    /// Without a body.
    pub head: Reply,
    body: BodyReader<'static>,
}

/// A call to an address below the provider's, beside its requests.
pub(super) struct Call {
    /// Whether it does something there.
    pub is_post: bool,
    pub path: String,
    pub body: Body,
}

/// What a call says.
pub(super) enum Body {
    None,
    /// Bytes of this content type.
    Bytes(String, Vec<u8>),
}

impl Body {
    pub fn json(value: &Value) -> Body {
        Body::Bytes("application/json".to_owned(), value.to_string().into_bytes())
    }

    /// A form with fields and a file, as RFC 7578 has it.
    pub fn file(fields: &[(&str, &str)], name: &str, content: &str) -> Body {
        // Nothing in the file can look like the boundary: it is made of what the file holds.
        let boundary = format!("genmake-{}", Digest::of(content));
        let disposition = "Content-Disposition: form-data";
        let mut form = String::with_capacity(content.len() + 500);
        for (field, value) in fields {
            form += &format!("--{boundary}\r\n{disposition}; name=\"{field}\"\r\n\r\n{value}\r\n");
        }
        form += &format!("--{boundary}\r\n{disposition}; name=\"file\"; filename=\"{name}\"\r\n");
        form += &format!("Content-Type: application/jsonl\r\n\r\n{content}\r\n--{boundary}--\r\n");
        Body::Bytes(format!("multipart/form-data; boundary={boundary}"), form.into_bytes())
    }
}

impl Incoming {
    /// Whether it comes as events.
    pub fn is_events(&self) -> bool {
        let kind = self.head.header("content-type").unwrap_or_default();
        (200..300).contains(&self.head.status) && kind.trim().to_ascii_lowercase().starts_with("text/event-stream")
    }
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
            // How long a provider may be silent. While it goes on answering, it is waited for.
            .timeout_send_body(Some(timeout))
            .timeout_recv_response(Some(timeout))
            .timeout_per_read(Some(timeout))
            .timeout_per_write(Some(timeout))
            .user_agent(concat!("genmake/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls);
        if is_loopback(base_url) {
            config = config.proxy(None);
        }
        Http { agent: config.build().into(), base_url: base_url.to_owned(), key }
    }

    /// The status with which the address answers, if anything does.
    pub fn answers(&self) -> Option<u16> {
        let request = self.agent.get(&self.base_url).config().timeout_global(Some(Duration::from_secs(2))).build();
        request.call().ok().map(|response| response.status().as_u16())
    }

    /// Takes the key out of a text that comes in pieces.
    pub fn mask(&self) -> Mask {
        Mask::new(self.key.as_ref())
    }

    /// A text without the key: providers like to quote it back.
    pub fn without_key(&self, text: &str) -> String {
        match &self.key {
            Some(Secret(key)) => text.replace(key.as_str(), "***"),
            None => text.to_owned(),
        }
    }

    /// Sends a body, with what its format says beside it, and waits until the reply begins.
    pub fn post(&self, wire: &dyn Wire, path: &str, body: &Value) -> Result<Incoming, Failure> {
        // What is packed arrives in larger pieces.
        let request = self.agent.post(format!("{}{path}", self.base_url)).header("accept-encoding", "identity");
        let headers = wire.headers(self.key.as_ref().map(|Secret(key)| key.as_str()));
        let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let (head, body) = request.send_json(body).map_err(|e| self.failure(&e))?.into_parts();
        let head = Reply { status: head.status.as_u16(), headers: head.headers, body: Vec::new() };
        Ok(Incoming { head, body: body.into_with_config().limit(MAX_BODY).reader() })
    }

    /// Makes a call, and waits until the reply begins.
    pub fn call(&self, wire: &dyn Wire, call: &Call) -> Result<Incoming, Failure> {
        let address = format!("{}{}", self.base_url, call.path);
        let headers = wire.headers(self.key.as_ref().map(|Secret(key)| key.as_str()));
        let with = |request| {
            headers.iter().fold(request, |request: RequestBuilder<_>, (name, value)| request.header(*name, value))
        };
        let sent = match &call.body {
            _ if !call.is_post => headers
                .iter()
                .fold(self.agent.get(&address), |request, (name, value)| request.header(*name, value))
                .call(),
            Body::None => with(self.agent.post(&address)).send_empty(),
            Body::Bytes(kind, bytes) => with(self.agent.post(&address)).content_type(kind).send(bytes),
        };
        let (head, body) = sent.map_err(|e| self.failure(&e))?.into_parts();
        let head = Reply { status: head.status.as_u16(), headers: head.headers, body: Vec::new() };
        Ok(Incoming { head, body: body.into_with_config().limit(MAX_RESULTS).reader() })
    }

    /// Has something taken away; whether anybody answered.
    pub fn delete(&self, wire: &dyn Wire, path: &str) -> bool {
        let request = self.agent.delete(format!("{}{path}", self.base_url));
        let headers = wire.headers(self.key.as_ref().map(|Secret(key)| key.as_str()));
        let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        request.config().timeout_global(Some(Duration::from_secs(2))).build().call().is_ok()
    }

    /// The next bytes of a reply, as soon as there are any; none at its end.
    pub fn read<'b>(&self, incoming: &mut Incoming, buffer: &'b mut [u8]) -> Result<&'b [u8], Failure> {
        let read = incoming.body.read(buffer).map_err(|e| self.failure(&e.into()))?;
        Ok(&buffer[..read])
    }

    /// A whole reply.
    pub fn whole(&self, mut incoming: Incoming) -> Result<Reply, Failure> {
        let mut body = Vec::new();
        incoming.body.read_to_end(&mut body).map_err(|e| self.failure(&e.into()))?;
        // Before anything of it is cut out and shown.
        let body = match std::str::from_utf8(&body) {
            Ok(text) => self.without_key(text).into_bytes(),
            Err(_) => body,
        };
        Ok(Reply { body, ..incoming.head })
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
