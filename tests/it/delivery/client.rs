//! The client and its guard: what it connects to, what it refuses, and how failures are told apart.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;
use spaces_bridge::delivery::{
    ClientSettings, HandshakeError, PostError, Posting, Received, Resolve, SystemResolver, WebhookClient, ask_permission,
};
use spaces_bridge::domain::ErrorClass;
use spaces_bridge::webhooks::WebhookUrl;
use tokio_rustls::TlsAcceptor;

use super::rig::{guard, tls};
use crate::support::receiver::{Receiver, Reply};

const SETTINGS: ClientSettings = ClientSettings { timeout: Duration::from_secs(5), idle_connections: 4 };

/// Gives one answer after the other, the last one for ever.
struct Answers {
    answers: Vec<Vec<&'static str>>,
    asked: AtomicUsize,
}

impl Answers {
    fn new(answers: Vec<Vec<&'static str>>) -> Arc<Self> {
        Arc::new(Self { answers, asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Resolve for Answers {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.get(asked).or(self.answers.last()).ok_or(io::Error::other("no such host"))?;
        Ok(answer.iter().map(|address| address.parse().expect("an address")).collect())
    }
}

fn client(resolver: Arc<dyn Resolve>) -> WebhookClient {
    WebhookClient::new(SETTINGS, guard(), resolver, tls(rustls::RootCertStore::empty()))
}

async fn post(client: &WebhookClient, url: &str) -> Result<Received, PostError> {
    client.post(Posting { uri: url.parse().expect("a URL"), headers: HeaderMap::new(), body: "{}".into(), timeout: None }).await
}

fn class(result: Result<Received, PostError>) -> ErrorClass {
    result.expect_err("no answer was expected").class()
}

#[tokio::test]
async fn a_name_is_resolved_once_a_connection_and_checked_each_time() {
    let receiver = Receiver::start(Reply::Answer(200, vec![("Connection", "close".to_owned())], Vec::new())).await;
    let answers = Answers::new(vec![vec!["127.0.0.1"], vec!["127.0.0.1"], vec!["10.0.0.1"]]);
    let client = client(Arc::clone(&answers) as Arc<dyn Resolve>);
    let url = format!("http://receiver.example:{}/", receiver.address().port());
    for asked in 1..=2 {
        assert!(post(&client, &url).await.is_ok());
        assert_eq!(answers.asked.load(Ordering::SeqCst), asked);
    }
    // The name now leads into the private network.
    assert_eq!(class(post(&client, &url).await), ErrorClass::AddressBlocked);
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn one_bad_address_among_good_ones_refuses_the_name() {
    let receiver = Receiver::start(Reply::status(200)).await;
    let url = format!("http://receiver.example:{}/", receiver.address().port());
    for bad in ["10.0.0.1", "169.254.169.254", "::1", "::ffff:192.168.0.1", "fd00:ec2::254"] {
        assert_eq!(
            class(post(&client(Answers::new(vec![vec!["127.0.0.1", bad]])), &url).await),
            ErrorClass::AddressBlocked,
            "{bad}"
        );
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn the_next_address_is_tried_if_one_does_not_answer() {
    let receiver = Receiver::start(Reply::status(200)).await;
    let url = format!("http://receiver.example:{}/", receiver.address().port());
    // Nothing listens on the second loopback address.
    assert!(post(&client(Answers::new(vec![vec!["127.0.0.2", "127.0.0.1"]])), &url).await.is_ok());
}

#[tokio::test]
async fn literal_addresses_are_checked_too() {
    let client = client(Arc::new(SystemResolver));
    for url in [
        "http://10.0.0.1/",
        "http://169.254.169.254/",
        "http://[::1]:8080/",
        "https://[::ffff:10.0.0.1]/",
        "http://127.0.0.1:22/",
    ] {
        assert_eq!(class(post(&client, url).await), ErrorClass::AddressBlocked, "{url}");
    }
}

#[tokio::test]
async fn failures_before_the_request_are_told_apart() {
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
    let receiver = Receiver::start(Reply::status(200)).await;
    let client = client(Answers::new(Vec::new()));
    for (url, expected) in [
        ("http://nowhere.example/".to_owned(), ErrorClass::Dns),
        (format!("http://{unused}/"), ErrorClass::Connect),
        (format!("https://{}/", receiver.address()), ErrorClass::Tls),
    ] {
        assert_eq!(class(post(&client, &url).await), expected, "{url}");
    }
    let no_addresses = self::client(Answers::new(vec![Vec::new()]));
    assert_eq!(class(post(&no_addresses, "http://nowhere.example/").await), ErrorClass::Dns);
}

#[tokio::test]
async fn tls_receivers_are_verified_by_name() {
    let certified = rcgen::generate_simple_self_signed(["receiver.example".to_owned()]).expect("a certificate");
    let (certificate, key) = (certified.cert.der().clone(), certified.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.try_into().expect("a key"))
        .expect("a certificate and its key");
    let receiver = Receiver::start_tls(Reply::status(200), TlsAcceptor::from(Arc::new(server))).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let client = WebhookClient::new(SETTINGS, guard(), Answers::new(vec![vec!["127.0.0.1"]]), tls(roots));
    let port = receiver.address().port();
    assert!(post(&client, &format!("https://receiver.example:{port}/")).await.is_ok());
    assert_eq!(class(post(&client, &format!("https://other.example:{port}/")).await), ErrorClass::Tls);
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn errors_say_what_happened_in_one_sentence() {
    let client = client(Arc::new(SystemResolver));
    let error = post(&client, "http://10.0.0.1/").await.expect_err("refused");
    assert_eq!(
        error.detail(),
        "the target is refused: the address is not public, and `webhooks.allow_networks` does not open it"
    );
}

#[tokio::test]
async fn the_question_of_the_handshake_goes_where_deliveries_may_go_only() {
    let receiver = Receiver::start(Reply::Answer(200, vec![("WebHook-Allowed-Origin", "*".to_owned())], Vec::new())).await;
    let url = format!("http://receiver.example:{}/", receiver.address().port());
    let url = WebhookUrl::parse(&url, &guard()).expect("a URL");
    assert!(ask_permission(&client(Answers::new(vec![vec!["127.0.0.1"]])), &url, None).await.is_ok());
    let error = ask_permission(&client(Answers::new(vec![vec!["10.0.0.1"]])), &url, None).await.expect_err("refused");
    assert!(matches!(&error, HandshakeError::NotAsked(cause) if cause.class() == ErrorClass::AddressBlocked), "{error:?}");
    assert!(!error.is_refusal() && error.detail().contains("the address is not public"), "{}", error.detail());
    assert_eq!(receiver.count(), 1);
}
