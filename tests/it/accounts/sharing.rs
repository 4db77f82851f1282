//! However many want a new token at the same time, a credential is used once.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::future::join_all;
use spaces_bridge::accounts::{AccountCredential, AccountParts, AccountRegistry, AccountSessions, AccountSettings, TokenSources};
use spaces_bridge::domain::{AccountId, Clock, Credential, Secret, SessionId, SystemClock, TokenKind};
use spaces_bridge::event_log::EventLog;
use spaces_bridge::metrics::Metrics;
use spaces_bridge::seal::Keyring;
use spaces_bridge::session::{Identity, RenewalError, SessionError, TokenSource as _};
use spaces_bridge::store::{Engine, MemoryStore};
use spaces_bridge::upstream::{OauthApplication, RestClient, RestSettings, TokenServer, TokenServerSettings};
use spaces_bridge::webhooks::WebhookRegistry;

use super::*;

/// Sessions that take everything and count.
struct Sessions {
    keyring: Arc<Keyring>,
    adopted: AtomicUsize,
    refused: Mutex<HashSet<SessionId>>,
}

#[async_trait]
impl AccountSessions for Sessions {
    async fn adopt(&self, _: Identity, credential: Credential) -> Result<SessionId, SessionError> {
        self.adopted.fetch_add(1, Ordering::Relaxed);
        Ok(self.keyring.session_id(&credential))
    }

    fn is_refused(&self, session: &SessionId) -> bool {
        self.refused.lock().expect("no panic").contains(session)
    }

    async fn release(&self, _: &AccountId) -> Result<(), SessionError> {
        Ok(())
    }
}

async fn registry(upstream: &FakeUpstream) -> (AccountRegistry, Arc<Sessions>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let engine: Arc<dyn Engine> = Arc::new(MemoryStore::new(Arc::clone(&clock)));
    let incarnation = engine.join("127.0.0.1:1", Duration::from_mins(1)).await.expect("joined").incarnation;
    let (keyring, metrics) = (Arc::new(Keyring::random()), Arc::new(Metrics::new()));
    let webhooks = WebhookRegistry::load(Arc::clone(&engine), Arc::clone(&keyring), Arc::clone(&clock)).await.expect("loaded");
    let log = EventLog::new(Arc::clone(&engine), incarnation, Arc::new(webhooks), Arc::clone(&clock), Arc::clone(&metrics));
    let tls = (*socketio_client::TlsConfig::platform().expect("a TLS configuration")).clone();
    let url = |text: String| text.parse().expect("an address");
    let timeout = Duration::from_secs(10);
    let rest = RestClient::new(&RestSettings { url: url(upstream.rest_url()), timeout }, tls.clone()).expect("a client");
    let server = TokenServerSettings { accounts: Some(url(upstream.accounts_url())), rest: url(upstream.rest_url()), timeout };
    let server = TokenServer::new(server, tls.clone()).expect("a client");
    let settings = AccountSettings {
        allow_commands: false,
        token_directories: Vec::new(),
        file_check: Duration::from_secs(5),
        max_accounts: 10,
        timeout,
        hidden_variables: "SPACES_BRIDGE_",
    };
    let sessions = Arc::new(Sessions { keyring: Arc::clone(&keyring), adopted: AtomicUsize::new(0), refused: Mutex::default() });
    let accounts = AccountRegistry::load(AccountParts {
        engine,
        keyring,
        event_log: Arc::new(log),
        rest,
        sources: TokenSources::new(server, settings.clone(), tls).expect("a client"),
        clock,
        metrics,
        settings,
    });
    let accounts = accounts.await.expect("loaded");
    accounts.meet(&(Arc::clone(&sessions) as _));
    accounts.start();
    (accounts, sessions)
}

fn refresh(scene: &Scene) -> AccountCredential {
    let refresh_token = scene.upstream.with_world(|world| world.refresh_token_for(&scene.ana));
    let application = OauthApplication { client_id: "c".to_owned(), client_secret: None, scope: None };
    AccountCredential::OauthRefresh { application, refresh_token: Secret::new(refresh_token) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_refusals_of_one_token_are_one_renewal() {
    let scene = Scene::start().await;
    let (accounts, sessions) = registry(&scene.upstream).await;
    let account = accounts.create(None, refresh(&scene)).await.expect("an account");
    let ask = || {
        let (accounts, account) = (accounts.clone(), account.clone());
        tokio::spawn(async move { accounts.renew(&account.id, &account.session).await })
    };
    let renewed = join_all((0..1000).map(|_| ask())).await;
    let tokens: Vec<Credential> = renewed.into_iter().map(|task| task.expect("no panic").expect("a token")).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]) && tokens[0].kind == TokenKind::Oauth);
    assert_eq!(scene.grants(), 2, "one to begin with, and one for all thousand");
    assert_eq!(scene.upstream.with_world(|world| world.unused_refresh_tokens(&scene.ana).len()), 1);
    assert_eq!(sessions.adopted.load(Ordering::Relaxed), 2);
    accounts.shut_down(DEADLINE).await;
}

#[tokio::test]
async fn a_credential_that_was_refused_is_not_asked_again_for_the_same_token() {
    let scene = Scene::start().await;
    let (accounts, _sessions) = registry(&scene.upstream).await;
    let account = accounts.create(None, refresh(&scene)).await.expect("an account");
    scene.upstream.with_world(|world| world.revoke_refresh_tokens(&scene.ana));
    for _ in 0..5 {
        let refused = accounts.renew(&account.id, &account.session).await;
        assert!(matches!(refused, Err(RenewalError::Refused(_))), "{refused:?}");
    }
    assert_eq!(scene.grants(), 2);
    let nobody: AccountId = "acc_nobody".parse().expect("an id");
    assert!(!accounts.manages(&nobody) && accounts.manages(&account.id));
    assert!(accounts.renew(&nobody, &account.session).await.is_err());
    accounts.shut_down(DEADLINE).await;
}

#[tokio::test]
async fn a_new_token_that_was_refused_as_well_is_not_offered_again() {
    let scene = Scene::start().await;
    let (accounts, sessions) = registry(&scene.upstream).await;
    let account = accounts.create(None, refresh(&scene)).await.expect("an account");
    let second = accounts.renew(&account.id, &account.session).await.expect("a token");
    assert_eq!(accounts.renew(&account.id, &account.session).await, Ok(second.clone()), "the newer one is there already");
    sessions.refused.lock().expect("no panic").insert(sessions.keyring.session_id(&second));
    let third = accounts.renew(&account.id, &account.session).await.expect("a token");
    assert!(third != second && scene.grants() == 3);
    accounts.shut_down(DEADLINE).await;
}

#[tokio::test]
async fn a_token_that_is_the_same_as_the_refused_one_is_none() {
    let scene = Scene::start().await;
    let (accounts, _sessions) = registry(&scene.upstream).await;
    let token = Secret::new(scene.upstream.token_for(&scene.ana, fake_upstream::TokenKind::Jwt).value);
    let account =
        accounts.create(None, AccountCredential::Token { token, token_kind: TokenKind::Jwt }).await.expect("an account");
    let refused = accounts.renew(&account.id, &account.session).await;
    assert!(matches!(refused, Err(RenewalError::Refused(_))), "{refused:?}");
    assert_eq!(accounts.get(&account.id).expect("an account").standing.as_str(), "credential_refused");
    accounts.shut_down(DEADLINE).await;
}
