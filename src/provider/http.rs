//! HTTP: the only place that names ureq. Keep-alive, timeouts, no redirects, gzip; proxies but for loopback, and whose certificates
//! are trusted.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};
use ureq::{Agent, BodyReader, Proxy, RequestBuilder};

use super::live::Secret;
use super::mask::{self, Mask};
use super::wire::Wire;
use super::{Failure, FailureKind};
use crate::digest::Digest;
use crate::error::{Code, Error};

/// The longest answer that is read, in bytes.
const MAX_BODY: u64 = 64 << 20;

/// The longest results of a round that are read, in bytes.
const MAX_RESULTS: u64 = 1 << 30;

/// One provider's address, key and connections.
pub(super) struct Http {
    agent: Agent,
    /// What its connections go through, without user and password.
    proxy: Option<String>,
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
    /// How much of it may still come. What is packed counts as it is unpacked: a small body can hold an endless one.
    left: u64,
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
    /// `env` reads the environment.
    ///
    /// # Errors
    /// [`Code::Provider`] where the environment names a proxy or certificates that cannot be used.
    pub fn new(
        base_url: &str,
        key: Option<Secret>,
        in_flight: usize,
        timeout: Duration,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Http, Error> {
        let tls = ureq::tls::TlsConfig::builder().root_certs(trusted(env)?).build();
        let proxy = if is_loopback(base_url) { None } else { proxy(base_url, env)? };
        let config = Agent::config_builder()
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
            .proxy(proxy.clone())
            .tls_config(tls);
        let proxy = proxy.map(|proxy| format!("{}:{}", proxy.host(), proxy.port()));
        Ok(Http { agent: config.build().into(), proxy, base_url: base_url.to_owned(), key })
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

    /// A text without the key.
    pub fn without_key(&self, text: &str) -> String {
        mask::without(self.key.as_ref(), text)
    }

    /// Sends a body, with what its format says beside it, and waits until the reply begins.
    pub fn post(&self, wire: &dyn Wire, path: &str, body: &Value) -> Result<Incoming, Failure> {
        let mut request = self.agent.post(format!("{}{path}", self.base_url));
        // Which of both says that it is to come in pieces is the format's matter.
        if body.get("stream").is_some_and(|stream| stream == true) || path.ends_with("alt=sse") {
            // What is packed arrives in larger pieces.
            request = request.header("accept-encoding", "identity");
        }
        let headers = wire.headers(self.key.as_ref().map(|Secret(key)| key.as_str()));
        let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let (head, body) = request.send_json(body).map_err(|e| self.failure(&e))?.into_parts();
        let head = Reply { status: head.status.as_u16(), headers: head.headers, body: Vec::new() };
        Ok(Incoming { head, body: body.into_with_config().limit(MAX_BODY).reader(), left: MAX_BODY })
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
        Ok(Incoming { head, body: body.into_with_config().limit(MAX_RESULTS).reader(), left: MAX_RESULTS })
    }

    /// Sends what is no request, with headers of its own; the status of the answer.
    pub fn tell(&self, path: &str, headers: &[(String, String)], body: &Value) -> Result<u16, Failure> {
        let request = self.agent.post(format!("{}{path}", self.base_url));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        Ok(request.send_json(body).map_err(|e| self.failure(&e))?.status().as_u16())
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
        match incoming.left.checked_sub(read as u64) {
            Some(left) => incoming.left = left,
            None => return Err(self.failure(&ureq::Error::BodyExceedsLimit(MAX_BODY))),
        }
        Ok(&buffer[..read])
    }

    /// A whole reply.
    pub fn whole(&self, mut incoming: Incoming) -> Result<Reply, Failure> {
        let (mut body, mut buffer) = (Vec::new(), [0; 8192]);
        loop {
            match self.read(&mut incoming, &mut buffer)? {
                [] => break,
                bytes => body.extend_from_slice(bytes),
            }
        }
        // Before anything of it is cut out and shown.
        let body = match std::str::from_utf8(&body) {
            Ok(text) => self.without_key(text).into_bytes(),
            Err(_) => body,
        };
        Ok(Reply { body, ..incoming.head })
    }

    fn failure(&self, error: &ureq::Error) -> Failure {
        use std::io::ErrorKind as Io;
        let address = match &self.proxy {
            Some(proxy) => format!("{}` through the proxy `{proxy}", host(&self.base_url)),
            None => host(&self.base_url),
        };
        let (kind, message) = match error {
            ureq::Error::Timeout(what) => (FailureKind::Timeout, format!("`{address}` took too long ({what})")),
            ureq::Error::HostNotFound => {
                (FailureKind::Unreachable, format!("no host `{}`", self.proxy.as_ref().unwrap_or(&address)))
            }
            ureq::Error::ConnectionFailed => (FailureKind::Unreachable, format!("cannot connect to `{address}`")),
            ureq::Error::ConnectProxyFailed(why) => {
                (FailureKind::Unreachable, format!("cannot connect to `{address}`: {why}"))
            }
            ureq::Error::Io(e) if e.kind() == Io::ConnectionRefused => {
                let at =
                    self.proxy.as_ref().map_or(format!("`{}`", self.base_url), |proxy| format!("the proxy `{proxy}`"));
                (FailureKind::Unreachable, format!("nothing listens at {at}"))
            }
            ureq::Error::Io(e) if e.kind() == Io::TimedOut => (FailureKind::Timeout, e.to_string()),
            ureq::Error::BodyExceedsLimit(_) => {
                (FailureKind::Rejected, format!("the answer is larger than {} MB", MAX_BODY >> 20))
            }
            ureq::Error::Io(e) if distrust(e).is_some() => {
                let why = distrust(e).unwrap_or_default();
                (FailureKind::Untrusted, format!("the certificate of `{address}` is not trusted: {why}"))
            }
            ureq::Error::Io(e) => (FailureKind::Cut, format!("the connection to `{address}` broke: {e}")),
            ureq::Error::Protocol(e) => (FailureKind::Cut, format!("the connection to `{address}` broke: {e}")),
            ureq::Error::Decompress(_, e) => {
                (FailureKind::Cut, format!("the answer of `{address}` could not be unpacked: {e}"))
            }
            other => (FailureKind::Unreachable, format!("cannot ask `{address}`: {other}")),
        };
        Failure::new(kind, message)
    }
}

/// Why a certificate does not do, if that is what went wrong.
fn distrust(error: &std::io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(why) => Some(why.to_string()),
        _ => None,
    }
}

/// Whose certificates are trusted: those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name, as OpenSSL has it, else the system's.
fn trusted(env: &dyn Fn(&str) -> Option<String>) -> Result<RootCerts, Error> {
    let named = |name: &str| env(name).filter(|value| !value.is_empty());
    let unusable = |name: &str, why: &dyn std::fmt::Display| {
        Error::new(Code::Provider, format!("the certificates that `{name}` names cannot be used: {why}"))
            .hint(format!("`{name}` names certificates as PEM; without it the system's own are trusted"))
    };
    let (file, folders) = (named("SSL_CERT_FILE"), named("SSL_CERT_DIR"));
    let mut files = Vec::new();
    if let Some(file) = &file {
        files.push(("SSL_CERT_FILE", PathBuf::from(file)));
    }
    for folder in folders.iter().flat_map(std::env::split_paths) {
        for entry in fs_err::read_dir(&folder).map_err(|e| unusable("SSL_CERT_DIR", &e))? {
            let path = entry.map_err(|e| unusable("SSL_CERT_DIR", &e))?.path();
            if path.is_file() {
                files.push(("SSL_CERT_DIR", path));
            }
        }
    }
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for (name, path) in files {
        let pem = fs_err::read(&path).map_err(|e| unusable(name, &e))?;
        // What else stands in a file of certificates is nobody's affair.
        let items = parse_pem(&pem).filter_map(Result::ok);
        certificates.extend(items.filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        }));
    }
    match file.as_ref().map(|_| "SSL_CERT_FILE").or(folders.as_ref().map(|_| "SSL_CERT_DIR")) {
        None => Ok(RootCerts::PlatformVerifier),
        Some(name) if certificates.is_empty() => Err(unusable(name, &"there are none")),
        Some(_) => Ok(RootCerts::new_with_certs(&certificates)),
    }
}

/// The proxy that the environment names for an address, as curl has it: by its scheme, else for all; none for the hosts that
/// `NO_PROXY` names, and what is below them.
fn proxy(base_url: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Proxy>, Error> {
    let one = |name: &str| {
        let names = [name.to_owned(), name.to_ascii_lowercase()];
        names.into_iter().find_map(|name| Some((env(&name).filter(|value| !value.trim().is_empty())?, name)))
    };
    let host = host(base_url);
    let is_of = |entry: &str| {
        let entry = entry.trim_start_matches('*').trim_start_matches('.').to_ascii_lowercase();
        entry.is_empty() || host == entry || host.strip_suffix(&entry).is_some_and(|rest| rest.ends_with('.'))
    };
    let excepted = one("NO_PROXY").map(|(hosts, _)| hosts).unwrap_or_default();
    let mut excepted = excepted.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
    if excepted.any(is_of) {
        return Ok(None);
    }
    let by_scheme = if base_url.starts_with("https://") { "HTTPS_PROXY" } else { "HTTP_PROXY" };
    let Some((address, name)) = one(by_scheme).or_else(|| one("ALL_PROXY")) else { return Ok(None) };
    // What it says is not shown: it may hold a password.
    let wrong = |_| {
        Error::new(Code::Provider, format!("`{name}` is not the address of a proxy")).hint(
            "write `http://HOST:PORT`, `https://HOST:PORT` or `socks5://HOST:PORT`, with `USER:PASSWORD@` if it asks",
        )
    };
    Proxy::new(address.trim()).map(Some).map_err(wrong)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The proxy for an address where the environment says this.
    fn chosen(base_url: &str, env: &[(&str, &str)]) -> Option<String> {
        let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        proxy(base_url, &env).unwrap().map(|proxy| format!("{} {}:{}", proxy.protocol(), proxy.host(), proxy.port()))
    }

    #[test]
    fn a_proxy_is_chosen_by_how_the_address_begins() {
        let all = [("ALL_PROXY", "socks5://s:1"), ("HTTPS_PROXY", "http://t:2"), ("HTTP_PROXY", "http://h:3")];
        assert_eq!(chosen("https://llm.acme.dev/v1", &all).as_deref(), Some("HTTP t:2"));
        assert_eq!(chosen("http://llm.acme.dev/v1", &all).as_deref(), Some("HTTP h:3"));
        assert_eq!(chosen("https://llm.acme.dev/v1", &all[..1]).as_deref(), Some("SOCKS5 s:1"));
        assert_eq!(chosen("https://llm.acme.dev/v1", &all[2..]), None);
        assert_eq!(chosen("http://llm.acme.dev/v1", &[("HTTP_PROXY", " ")]), None);
        // Where both spellings are set, as in capitals; without a scheme it is one of HTTP.
        let both = [("HTTP_PROXY", "a"), ("http_proxy", "b")];
        assert_eq!(chosen("http://llm.acme.dev/v1", &both).as_deref(), Some("HTTP a:80"));
    }

    #[test]
    fn hosts_without_a_proxy() {
        let through = |no_proxy: &str| {
            chosen("https://llm.Acme.dev:8443/v1", &[("ALL_PROXY", "http://p:1"), ("no_proxy", no_proxy)]).is_some()
        };
        for direct in ["llm.acme.dev", "x, acme.dev", ".acme.dev", "*.ACME.dev", "a b *", "dev"] {
            assert!(!through(direct), "{direct}");
        }
        for other in ["", "cme.dev", "other.dev,acme.com", "sub.llm.acme.dev", ","] {
            assert!(through(other), "{other}");
        }
    }

    #[test]
    fn what_a_proxys_variable_says_is_not_shown() {
        for wrong in ["gopher://ann:s3cret@p", "http://", "%%s3cret"] {
            let error = proxy("https://x/v1", &|name| (name == "HTTPS_PROXY").then(|| wrong.to_owned())).unwrap_err();
            assert!(error.message.contains("`HTTPS_PROXY`") && !format!("{error:?}").contains("s3cret"), "{error:?}");
        }
    }
}
