//! `spaces-bridge demo`: the service beside a built-in fake Spaces and a webhook receiver of its own, to try everything out without
//! an account.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::Args;
use fake_upstream::{DemoWorld, FakeUpstream, Options};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::app::App;
use crate::config::{Config, Environment};
use crate::domain::Secret;
use crate::failure::{Failure, runtime};
use crate::seal::Key;
use crate::server::Listener;
use crate::shutdown::Shutdown;
use crate::telemetry;

/// Where the demo listens, unless told otherwise or somebody is there already.
const PREFERRED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Most characters of a text that are shown of what arrives.
const MAX_SHOWN: usize = 200;

/// Most time until the service is ready.
const READY_TIME: Duration = Duration::from_secs(20);

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where the API listens; 127.0.0.1:8080 if that is free, else a free port.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Which log lines appear.
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    log: String,
}

/// Runs the demo until a signal comes.
pub(crate) fn run(arguments: &DemoArgs) -> Result<(), Failure> {
    let data = tempfile::tempdir()?;
    let mut config = Config::default();
    config.log.filter.clone_from(&arguments.log);
    data.path().clone_into(&mut config.store.path);
    config.http.internal_listen = ANY_PORT;
    config.security.master_key = Some(Secret::new(STANDARD.encode(Key::random().expose())));
    let admin_key = Secret::new(crate::domain::hex(Key::random().expose()));
    config.security.admin_key = Some(admin_key.clone());
    config.webhooks.allow_networks = vec!["127.0.0.0/8".parse()?];
    telemetry::start(&config.log).map_err(Failure::new)?;
    runtime()?.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        let upstream = FakeUpstream::start(Options::default()).await?;
        let world = upstream.demo_world();
        config.upstream.environment = Environment::Custom;
        config.upstream.rest_url = Some(upstream.rest_url().parse()?);
        config.upstream.socket_url = Some(upstream.socket_url().parse()?);
        config.http.listen = match arguments.listen {
            Some(address) => address,
            None if tokio::net::TcpListener::bind(PREFERRED).await.is_ok() => PREFERRED,
            None => ANY_PORT,
        };
        let app = App::build(config).await?;
        let api = format!("http://{}", reachable(app.address()));
        let service = tokio::spawn(app.run(shutdown.clone()));
        let story = async {
            let demo = Demo::prepare(&api, &upstream, &world, &shutdown).await?;
            demo.introduce(&admin_key);
            demo.greet().await?;
            shutdown.requested().await;
            Ok::<(), Failure>(())
        };
        let told = story.await;
        if told.is_err() {
            shutdown.request();
        }
        service.await??;
        upstream.stop().await;
        told?;
        println!("\nThe demo has ended; everything it stored is gone.");
        Ok(())
    })
}

/// An address that a client on this machine can use.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}

struct Demo<'a> {
    api: &'a str,
    upstream: &'a FakeUpstream,
    world: &'a DemoWorld,
    receiver: SocketAddr,
    webhook: String,
    /// Where anything can be posted that is to become a message.
    hook: String,
}

impl<'a> Demo<'a> {
    async fn prepare(
        api: &'a str,
        upstream: &'a FakeUpstream,
        world: &'a DemoWorld,
        shutdown: &Shutdown,
    ) -> Result<Self, Failure> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured((*socketio_client::TlsConfig::platform()?).clone())
            .no_proxy()
            .build()?;
        wait_until_ready(&client, api).await?;
        let secret = Arc::new(OnceLock::new());
        let receiver = start_receiver(Arc::clone(&secret), shutdown).await?;
        let make = async |path: &str, body: Value| make(&client, &format!("{api}{path}"), world, &body).await;
        let body = json!({ "url": format!("http://{receiver}/webhook"), "description": "the demo's own receiver" });
        let [webhook, text] = made("the webhook", &make("/webhooks", body).await?, ["id", "secret"])?;
        // Set once: nobody else has this cell.
        let _ = secret.set(Secret::new(text));
        let body = json!({ "name": "the demo's own", "spaceId": world.operations.as_ref() });
        let [hook] = made("the incoming hook", &make("/incoming-hooks", body).await?, ["url"])?;
        Ok(Self { api, upstream, world, receiver, webhook, hook })
    }

    fn introduce(&self, admin_key: &Secret) {
        let Self { api, world, receiver, webhook, hook, .. } = self;
        let (token, operations, lounge) = (world.token.as_ref(), world.operations.as_ref(), world.lounge.as_ref());
        println!("spaces-bridge runs at {api} beside a fake Spaces. Everything here is made up, and gone when it ends.\n");
        println!("API and its documentation   {api}/docs");
        println!("Demo token (jwt)            {token}");
        println!("Admin key                   {}", admin_key.expose());
        println!("Space \"Operations\"          {operations}");
        println!("Space \"Lounge\"              {lounge}");
        println!("Colleague \"Cleo Marsh\"      {}", world.cleo.as_ref());
        println!("Webhook                     {webhook} -> http://{receiver}/webhook");
        println!("Incoming hook               {hook}\n");
        println!("Try these in another terminal:\n");
        println!("# Send a message; the answer has the id that Spaces gave it");
        println!(
            "curl -s {api}/spaces/{operations}/messages -H 'Authorization: jwt {token}' -H 'Content-Type: application/json' -d '{{\"text\": \"Hello from curl\"}}'\n"
        );
        println!("# The same from anything that can post: no token, only the address of the incoming hook");
        println!("curl -s {hook} -H 'Content-Type: application/json' -d '{{\"text\": \"Hello from *any* system\"}}'\n");
        println!("# Send one to a colleague");
        println!(
            "curl -s {api}/direct/user/{} -H 'Authorization: jwt {token}' -H 'Content-Type: application/json' -d '{{\"text\": \"Hello Cleo\"}}'\n",
            world.cleo.as_ref()
        );
        println!("# The spaces, the session, the webhooks and what was delivered to them");
        println!("curl -s {api}/spaces -H 'Authorization: jwt {token}'");
        println!("curl -s {api}/sessions -H 'Authorization: jwt {token}'");
        println!("curl -s {api}/webhooks/{webhook}/deliveries -H 'Authorization: jwt {token}'\n");
        let (admin, ana) = (admin_key.expose(), world.ana.as_ref());
        println!(
            "# As the operator: let the bridge keep Ana's account by itself, and make a key that may send for her and do nothing else"
        );
        println!(
            "curl -s {api}/accounts -H 'Authorization: Bearer {admin}' -H 'Content-Type: application/json' -d '{{\"name\": \"Ana\", \"credential\": {{\"kind\": \"token\", \"token\": \"{token}\"}}}}'"
        );
        println!(
            "curl -s {api}/accounts/acc_{ana}/keys -H 'Authorization: Bearer {admin}' -H 'Content-Type: application/json' -d '{{\"name\": \"ci\", \"scopes\": [\"send\"]}}'\n"
        );
        println!("What arrives at the webhook is shown here. Ctrl-C ends the demo.\n");
    }

    /// A colleague says something, so that there is something to see; not before the session listens, which follows the webhook.
    async fn greet(&self) -> Result<(), Failure> {
        let (token, space) = (self.world.token.as_ref(), self.world.operations.as_ref());
        self.upstream.wait_until(READY_TIME, |seen| seen.is_subscribed(token, space)).await?;
        self.upstream.post_as(&self.world.bo, &self.world.operations, "<p>Welcome to the demo!</p>")?;
        Ok(())
    }
}

/// Makes something as Ana. Answers the status and the body.
async fn make(client: &reqwest::Client, url: &str, world: &DemoWorld, body: &Value) -> Result<(StatusCode, Value), Failure> {
    let answer = client
        .post(url)
        .header("authorization", format!("jwt {}", world.token.as_ref()))
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await?;
    let status = answer.status();
    Ok((status, serde_json::from_str(&answer.text().await?)?))
}

/// What is needed of `what` that was made.
fn made<const N: usize>(what: &str, (status, answer): &(StatusCode, Value), fields: [&str; N]) -> Result<[String; N], Failure> {
    let texts = fields.map(|field| answer[field].as_str().map(str::to_owned));
    if texts.iter().any(Option::is_none) {
        return Err(Failure::new(format!("{what} could not be made: {status} {}", answer["detail"])));
    }
    Ok(texts.map(Option::unwrap_or_default))
}

async fn wait_until_ready(client: &reqwest::Client, api: &str) -> Result<(), Failure> {
    let deadline = tokio::time::Instant::now() + READY_TIME;
    loop {
        let answer = client.get(format!("{api}/readyz")).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(Failure::new("the service did not get ready in time"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

type ReceiverSecret = Arc<OnceLock<Secret>>;

/// Starts a webhook receiver that shows what it gets and whether the signature holds.
async fn start_receiver(secret: ReceiverSecret, shutdown: &Shutdown) -> Result<SocketAddr, Failure> {
    let router = Router::new().route("/webhook", post(receive)).with_state(secret);
    let listener = Listener::bind(ANY_PORT).await?;
    let address = listener.address();
    // Ends with the demo, by the same shutdown.
    tokio::spawn(listener.serve(router, shutdown.clone(), Duration::from_secs(1)));
    Ok(address)
}

async fn receive(State(secret): State<ReceiverSecret>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Some(secret) = secret.get() else { return StatusCode::SERVICE_UNAVAILABLE };
    if !is_signed(secret, &headers, &body) {
        println!("<- webhook with a wrong signature; refused");
        return StatusCode::UNAUTHORIZED;
    }
    let event: Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = &event["data"]["message"];
    let text = |value: &Value| shortened(value.as_str().unwrap_or("-"));
    println!(
        "<- webhook {} (signature verified) from {}: {:?}",
        text(&event["type"]),
        text(&message["sender"]["displayName"]),
        text(&message["text"]),
    );
    StatusCode::NO_CONTENT
}

/// As much of a text as fits beside others.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Checks a delivery as any receiver would (Standard Webhooks, "Verifying webhook authenticity").
fn is_signed(secret: &Secret, headers: &HeaderMap, body: &[u8]) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let encoded = secret.expose().strip_prefix("whsec_").unwrap_or_default();
    let Ok(key) = STANDARD.decode(encoded) else { return false };
    header("webhook-signature").split(' ').filter_map(|entry| entry.strip_prefix("v1,")).any(|signature| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes a key of any length");
        mac.update(format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).as_bytes());
        mac.update(body);
        STANDARD.decode(signature).is_ok_and(|signature| mac.verify_slice(&signature).is_ok())
    })
}
