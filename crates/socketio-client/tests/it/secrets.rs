//! The token shows in no log line and no error, whatever happens; and TLS works with shared settings.

use std::io;
use std::sync::{Arc, Mutex};

use rustls::pki_types::PrivateKeyDer;
use socketio_client::{ConnectOptions, Protocol, connect};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::{ENCODED_TOKEN, Server, TOKEN, end_of, joined, open, soon};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic while logging").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_logged_or_part_of_an_error() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut shown = Vec::new();
    let server = Server::start().await;

    let echoes = [
        format!(r#"44/chat,"refused {TOKEN}""#),
        format!(r#"44/chat,"refused {ENCODED_TOKEN}""#),
        format!("4{TOKEN}"),
        format!("42/chat,[{TOKEN}"),
        format!("0{TOKEN}"),
    ];
    for echo in echoes {
        let error = server
            .refuse(Protocol::EngineIo3, async |mut peer| {
                peer.send(&echo).await;
                peer.until_closed().await;
            })
            .await;
        shown.push(format!("{error} {error:?}"));
    }
    let (mut connection, mut peer) = server.join(Protocol::EngineIo3, 25_000, 60_000).await;
    // Makes the client warn, which shows that the log is caught.
    peer.send("2").await;
    peer.send(&format!(r#"44/chat,"{TOKEN}""#)).await;
    let end = end_of(&mut connection).await;
    shown.push(format!("{end} {end:?}"));

    let log = String::from_utf8(log.0.lock().expect("no panic while logging").clone()).expect("UTF-8");
    assert!(log.contains("joined namespace"), "{log}");
    assert!(log.contains("Engine.IO 4"), "{log}");
    shown.push(log);
    for text in &shown {
        assert!(!text.contains(TOKEN) && !text.contains(ENCODED_TOKEN), "{text}");
    }
}

#[tokio::test]
async fn connections_over_tls_share_one_configuration() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server_tls = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("default versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a usable certificate");
    let acceptor = TlsAcceptor::from(Arc::new(server_tls));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a usable certificate");
    let client_tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client_tls = Arc::new(client_tls);

    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let port = listener.local_addr().expect("a bound listener").port();
    let options = ConnectOptions::new(&format!("wss://localhost:{port}"))
        .expect("a valid URL")
        .namespace("/chat")
        .expect("a valid namespace")
        .tls(Arc::clone(&client_tls));
    for _ in 0..2 {
        let serve = async {
            let (stream, _) = listener.accept().await.expect("a connection");
            let stream = acceptor.accept(stream).await.expect("a TLS client");
            let mut socket = Box::pin(tokio_tungstenite::accept_async(stream)).await.expect("a WebSocket client");
            for text in [&open(25_000, 60_000), joined(Protocol::EngineIo3), r#"42/chat,["over TLS"]"#] {
                let message = tokio_tungstenite::tungstenite::Message::text(text);
                futures_util::SinkExt::send(&mut socket, message).await.expect("to send");
            }
            socket
        };
        let (connection, _socket) = soon(async { tokio::join!(connect(&options), serve) }).await;
        let mut connection = connection.expect("to join");
        assert_eq!(crate::support::next_event(&mut connection).await.name(), "over TLS");
    }
    assert!(Arc::strong_count(&client_tls) >= 2);
}
