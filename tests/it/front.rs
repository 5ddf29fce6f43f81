//! What stands before a provider: a proxy that is asked to connect, and a server of TLS with a certificate of a made-up authority.
//! Each serves its connections on threads of its own until the test ends.

use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::server::Server;

/// The address that a server listens at.
fn address(server: &Server) -> String {
    server.base_url().trim_start_matches("http://").trim_end_matches("/v1").to_owned()
}

/// Listens on a free port, and serves each connection on a thread of its own.
fn listen(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
    let address = listener.local_addr().expect("a bound port has an address");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || drop(serve(stream))); // who leaves has a right to
        }
    });
    address
}

/// What is said up to an empty line, and the first line of it.
fn head(reader: &mut impl io::BufRead) -> io::Result<(String, String)> {
    let (mut all, mut first) = (String::new(), String::new());
    loop {
        let at = all.len();
        if reader.read_line(&mut all)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if at == 0 {
            first = all.trim_end().to_owned();
        }
        if all[at..].trim_end().is_empty() {
            return Ok((first, all));
        }
    }
}

/// A proxy for whom every name is the server's. It wants the user and password `ann:s3cret` if it wants any.
pub struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub fn start(server: &Server, wants_login: bool) -> Proxy {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (heard, to) = (Arc::clone(&asked), address(server));
        let address = listen(move |client| {
            let mut reader = BufReader::new(client.try_clone()?);
            let (first, all) = head(&mut reader)?;
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(first.clone());
            // `ann:s3cret` in base64.
            let may = !wants_login || all.to_ascii_lowercase().contains("proxy-authorization: basic yw5uonmzy3jlda==");
            if !first.starts_with("CONNECT ") || !may {
                return (&client).write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n");
            }
            let server = TcpStream::connect(&to)?;
            (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            let (mut from, mut into) = (server.try_clone()?, client.try_clone()?);
            let back = thread::spawn(move || io::copy(&mut from, &mut into));
            io::copy(&mut reader, &mut &server)?;
            server.shutdown(std::net::Shutdown::Both)?;
            drop(back.join());
            Ok(())
        });
        Proxy { address, asked }
    }

    /// Its address, with a login if there is one.
    pub fn url(&self, login: &str) -> String {
        format!("http://{login}{}", self.address)
    }

    /// What it was asked, line by line.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A made-up authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("it signs itself"))
    }

    /// Its certificate, as `SSL_CERT_FILE` has it.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Puts TLS before a server; the certificate is for `name`. The address of that.
    pub fn before(&self, server: &Server, name: &str) -> String {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a good name");
        let certificate = params.signed_by(&key, &self.0).expect("the authority signs it");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key as rustls has it");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key));
        let (config, to) = (Arc::new(config.expect("a certificate and its key")), address(server));
        let at = listen(move |client| {
            let tls = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            let mut client = BufReader::new(StreamOwned::new(tls, client));
            // One request for each connection: its answer is what comes until the server has no more to say.
            let (_, head) = head(&mut client)?;
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            client.read_exact(&mut body)?;
            let mut server = TcpStream::connect(&to)?;
            server.write_all(head.trim_end().as_bytes())?;
            server.write_all(b"\r\nconnection: close\r\n\r\n")?;
            server.write_all(&body)?;
            let client = client.get_mut();
            io::copy(&mut server, client)?;
            client.conn.send_close_notify();
            client.flush()
        });
        format!("https://localhost:{}/v1", at.port())
    }
}
