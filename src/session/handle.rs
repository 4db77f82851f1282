//! [`SessionHandle`]: what callers hold of a session.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::types::{Identity, OutgoingMessage, SendOutcome, SessionError, SessionStatus, Unconfirmed};
use super::watermarks::Wish;
use crate::domain::{AccountId, ClosedReason, Credential, MessageRef, SessionId, SessionState, SpaceId, Timestamp, TokenKind};
use crate::governor::Allowance;

/// When to come again if a session's queue is full: about what it takes to work it off.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// What a session is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Send a message and tell how it ended.
    Send { message: Box<OutgoingMessage>, reply: oneshot::Sender<Result<SendOutcome, SessionError>> },
    /// The caller waits no longer for `reference`; tell whether it was emitted.
    StopWaiting { reference: MessageRef, reply: oneshot::Sender<Waiting> },
    /// Listen to a space and tell when Spaces has confirmed it.
    Subscribe { space: SpaceId, reply: oneshot::Sender<Result<(), SessionError>> },
    /// The caller waits no longer for the subscription to a space; tell how it stands.
    Explain { space: SpaceId, reply: oneshot::Sender<Result<(), SessionError>> },
    /// Tell a subscribed space that the user is typing, now or not at all.
    Typing { space: SpaceId, reply: oneshot::Sender<Result<(), SessionError>> },
    /// What webhooks and subscriptions want of this session has changed.
    InterestChanged,
    /// Serve the account.
    Serve(Box<Identity>),
    /// Another session serves the account: finish what is under way, and end.
    Retire,
    /// Give up the connection, if there is one, and make another at once.
    Restart,
    /// A call over REST was refused with the session's token.
    Doubt,
    /// Someone wants the history of spaces; the wish is stored under this id.
    Wish(String, Wish),
    /// End.
    Close(ClosedReason),
}

/// What the actor knows of a send whose caller stops waiting.
#[derive(Debug)]
pub(super) enum Waiting {
    /// It had not been emitted and will not be; this stood in the way.
    NotSent(SessionError),
    /// It was emitted; the actor goes on looking for the echo.
    Emitted,
    /// It ended in the meantime; the answer is on its way.
    Ended,
}

/// A reference to a session. Cheap to clone; the session lives on without it.
#[derive(Debug, Clone)]
pub struct SessionHandle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: SessionId,
    credential: Credential,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<SessionStatus>,
}

impl SessionHandle {
    pub(super) fn new(
        id: SessionId,
        credential: Credential,
        commands: mpsc::Sender<Command>,
        status: watch::Receiver<SessionStatus>,
    ) -> Self {
        Self(Arc::new(Inner { id, credential, commands, status }))
    }

    /// The session's id.
    pub fn id(&self) -> &SessionId {
        &self.0.id
    }

    /// The token that the session uses, for calls of the upstream's REST API.
    pub fn credential(&self) -> &Credential {
        &self.0.credential
    }

    /// What the session looks like now.
    pub fn status(&self) -> SessionStatus {
        self.0.status.borrow().clone()
    }

    /// Where the session stands now.
    pub fn state(&self) -> SessionState {
        self.0.status.borrow().state
    }

    /// How the limit on emits of the session's user stands.
    pub fn emit_allowance(&self) -> Allowance {
        self.0.status.borrow().governor.emit_allowance(Instant::now())
    }

    /// Largest message that Spaces takes from the session's user, in bytes.
    pub fn payload_limit(&self) -> usize {
        self.0.status.borrow().governor.payload_bytes()
    }

    /// Why Spaces refused the session's token, if it did.
    pub(super) fn refusal(&self) -> Option<String> {
        let status = self.0.status.borrow();
        (status.state == SessionState::AuthFailed).then(|| status.reason.clone().unwrap_or_default())
    }

    /// Who the session acts for. Waits until that is known, for `wait` at most.
    pub async fn identity(&self, wait: Duration) -> Result<Identity, SessionError> {
        let mut status = self.0.status.clone();
        let known = status.wait_for(|status| status.identity.is_some() || !status.state.is_usable());
        match tokio::time::timeout(wait, known).await {
            Ok(Ok(status)) => match (&status.identity, status.state) {
                (_, SessionState::AuthFailed) => {
                    Err(SessionError::AuthFailed { detail: status.reason.clone().unwrap_or_default() })
                }
                (Some(identity), _) => Ok(identity.clone()),
                (None, _) => Err(SessionError::Closed),
            },
            Ok(Err(_)) => Err(SessionError::Closed),
            Err(_) => Err(self.not_connected()),
        }
    }

    /// Waits until the session has a connection, or can have none any more, for `wait` at most. Answers whether it has.
    pub async fn comes_online(&self, wait: Duration) -> bool {
        let mut status = self.0.status.clone();
        let settled = status.wait_for(|status| status.state == SessionState::Online || !status.state.is_usable());
        let settled = tokio::time::timeout(wait, settled).await;
        matches!(settled, Ok(Ok(status)) if status.state == SessionState::Online)
    }

    /// Sends a message and waits for its end, for `wait` at most.
    ///
    /// # Errors
    ///
    /// Every error but [`SessionError::MessageRefused`] means that nothing was emitted. A session that goes without an answer may have
    /// emitted the message: its outcome is unconfirmed, and no error.
    pub async fn send(&self, message: OutgoingMessage, wait: Duration) -> Result<SendOutcome, SessionError> {
        let deadline = Instant::now() + wait;
        let reference = message.reference.clone();
        let (reply, mut answer) = oneshot::channel();
        self.command(Command::Send { message: Box::new(message), reply })?;
        match tokio::time::timeout_at(deadline, &mut answer).await {
            Ok(answer) => outcome(answer),
            Err(_) => self.stop_waiting(reference, answer).await,
        }
    }

    /// Listens to `space`, and waits for the upstream's word for `wait` at most.
    pub async fn subscribe(&self, space: SpaceId, wait: Duration) -> Result<(), SessionError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Subscribe { space: space.clone(), reply })?;
        match tokio::time::timeout(wait, answer).await {
            Ok(answer) => answer.unwrap_or(Err(SessionError::Closed)),
            Err(_) => self.explain(space).await,
        }
    }

    /// Tells `space` that the user is typing. Subscribes to it first, for `wait` at most; the sign itself goes at once or not at all.
    pub async fn typing(&self, space: SpaceId, wait: Duration) -> Result<(), SessionError> {
        self.subscribe(space.clone(), wait).await?;
        let (reply, answer) = oneshot::channel();
        self.command(Command::Typing { space, reply })?;
        answer.await.unwrap_or(Err(SessionError::Closed))
    }

    /// Tells the session that what webhooks and subscriptions want has changed.
    pub async fn interest_changed(&self) {
        // A session that has ended has no interest to follow.
        let _ = self.0.commands.send(Command::InterestChanged).await;
    }

    /// Lets the session serve its account.
    pub(super) async fn serve(&self, identity: Identity) {
        // A session that has ended serves nobody; whoever needs one opens another.
        let _ = self.0.commands.send(Command::Serve(Box::new(identity))).await;
    }

    /// Lets the session end once it has finished what is under way.
    pub(super) async fn retire(&self) {
        // One that has ended already needs no telling.
        let _ = self.0.commands.send(Command::Retire).await;
    }

    /// Lets the session make a new connection.
    pub(super) async fn restart(&self) {
        // One that has ended meanwhile makes none.
        let _ = self.0.commands.send(Command::Restart).await;
    }

    /// Lets the session look whether its token is still good, if it has room for the word.
    pub(super) fn doubt(&self) {
        // The next call that is refused says so again.
        let _ = self.0.commands.try_send(Command::Doubt);
    }

    /// Lets the session look again at what is wanted of it, if it has room for the word.
    pub(super) fn nudge(&self) {
        // It looks by itself before it does anything that matters.
        let _ = self.0.commands.try_send(Command::InterestChanged);
    }

    /// The session's status as it changes.
    pub(super) fn watch(&self) -> watch::Receiver<SessionStatus> {
        self.0.status.clone()
    }

    /// When it was opened.
    pub(super) fn opened_at(&self) -> Timestamp {
        self.0.status.borrow().opened_at
    }

    /// Whether it acts for `account`.
    pub(super) fn is_of(&self, account: &AccountId) -> bool {
        self.0.status.borrow().identity.as_ref().is_some_and(|identity| identity.account == *account)
    }

    /// When its token ends, while it uses it and if the token says so.
    pub(super) fn token_end(&self) -> Option<(TokenKind, Timestamp)> {
        let status = self.0.status.borrow();
        status.token_expires_at.filter(|_| status.state.is_usable()).map(|at| (status.token_kind, at))
    }

    /// Tells the session of a wish that is stored.
    pub(super) async fn wish(&self, id: String, wish: Wish) {
        // A session that has ended leaves it to the next one.
        let _ = self.0.commands.send(Command::Wish(id, wish)).await;
    }

    /// Ends the session and waits until its connection is closed.
    pub async fn close(&self, reason: ClosedReason) {
        // One that is ending already does not take the command.
        let _ = self.0.commands.send(Command::Close(reason)).await;
        self.ended().await;
    }

    /// Waits until the session's connection is closed and its ownership given back.
    pub(super) async fn ended(&self) {
        let mut status = self.0.status.clone();
        // The actor drops its side with its last step.
        while status.changed().await.is_ok() {}
    }

    /// Whether both are handles of the same opening of a session.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    async fn explain(&self, space: SpaceId) -> Result<(), SessionError> {
        let (reply, answer) = oneshot::channel();
        if self.0.commands.send(Command::Explain { space, reply }).await.is_err() {
            return Err(SessionError::Closed);
        }
        answer.await.unwrap_or(Err(SessionError::Closed))
    }

    fn command(&self, command: Command) -> Result<(), SessionError> {
        self.0.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SessionError::Busy { retry_after: BUSY_RETRY },
            mpsc::error::TrySendError::Closed(_) => match self.state() {
                SessionState::AuthFailed => {
                    SessionError::AuthFailed { detail: self.0.status.borrow().reason.clone().unwrap_or_default() }
                }
                _ => SessionError::Closed,
            },
        })
    }

    /// Tells the actor that nobody waits any more, and finds out whether the message had left.
    async fn stop_waiting(
        &self,
        reference: MessageRef,
        answer: oneshot::Receiver<Result<SendOutcome, SessionError>>,
    ) -> Result<SendOutcome, SessionError> {
        let (reply, waiting) = oneshot::channel();
        // The queue is bounded and worked off promptly, so this does not wait long; giving up here would leave the fate unknown.
        if self.0.commands.send(Command::StopWaiting { reference, reply }).await.is_err() {
            // It is ending, and answers everyone before it is gone.
            return outcome(answer.await);
        }
        match waiting.await {
            Ok(Waiting::NotSent(why)) => Err(why),
            Ok(Waiting::Emitted) => Ok(SendOutcome::Unconfirmed(Unconfirmed::WaitEnded)),
            Ok(Waiting::Ended) | Err(_) => outcome(answer.await),
        }
    }

    fn not_connected(&self) -> SessionError {
        let status = self.0.status.borrow();
        SessionError::NotConnected {
            retry_after: status.reconnect_after(),
            detail: status.reason.clone().unwrap_or_else(|| format!("the session is {}", status.state.as_str())),
        }
    }
}

/// What the session answered. One that has gone without a word may have emitted the message before.
fn outcome(answer: Result<Result<SendOutcome, SessionError>, oneshot::error::RecvError>) -> Result<SendOutcome, SessionError> {
    answer.unwrap_or(Ok(SendOutcome::Unconfirmed(Unconfirmed::ConnectionLost)))
}

/// When to come again if there is no connection: about the time of a few attempts to make one.
pub(super) const NOT_CONNECTED_RETRY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::super::pending::Reply;
    use super::*;
    use crate::domain::Secret;
    use crate::governor::{Governors, LimitSettings};
    use crate::metrics::Metrics;

    fn handle() -> (SessionHandle, mpsc::Receiver<Command>, watch::Sender<SessionStatus>) {
        let credential = Credential { kind: TokenKind::Jwt, token: Secret::new("a-token") };
        let governors = Governors::new(LimitSettings::default(), Arc::new(Metrics::new()));
        let governor = governors.of(&credential, Instant::now());
        let id: SessionId = "ses_1".parse().expect("an id");
        let status = SessionStatus::new(id.clone(), &credential, Timestamp::from_millis(1), governor);
        let (commands, received) = mpsc::channel(4);
        let (status, watched) = watch::channel(status);
        (SessionHandle::new(id, credential, commands, watched), received, status)
    }

    fn message() -> OutgoingMessage {
        let space = "64f0a1b2c3d4e5f601020304".parse().expect("an id");
        OutgoingMessage::chat(MessageRef::random(), space, ("hello", "hello".to_owned()), None, &[])
    }

    async fn next_send(received: &mut mpsc::Receiver<Command>) -> Reply {
        match received.recv().await {
            Some(Command::Send { reply, .. }) => reply,
            other => panic!("no send: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_session_that_goes_without_a_word_leaves_the_send_unconfirmed() {
        let (session, mut received, _status) = handle();
        let sent = tokio::spawn(async move { session.send(message(), Duration::from_mins(1)).await });
        drop(next_send(&mut received).await);
        let outcome = sent.await.expect("no panic");
        assert!(matches!(outcome, Ok(SendOutcome::Unconfirmed(Unconfirmed::ConnectionLost))), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_send_whose_wait_ends_while_its_session_ends_gets_the_last_word_of_the_session() {
        let (session, mut received, _status) = handle();
        let sent = tokio::spawn(async move { session.send(message(), Duration::ZERO).await });
        let reply = next_send(&mut received).await;
        received.close();
        while received.recv().await.is_some() {}
        // The session takes no word any more and has not said yet what became of the send.
        tokio::task::yield_now().await;
        reply.send(Ok(SendOutcome::Unconfirmed(Unconfirmed::ConnectionLost))).expect("someone waits for it");
        assert!(matches!(sent.await.expect("no panic"), Ok(SendOutcome::Unconfirmed(Unconfirmed::ConnectionLost))));
    }

    #[tokio::test]
    async fn a_session_that_has_ended_takes_nothing() {
        let (session, received, _status) = handle();
        drop(received);
        let outcome = session.send(message(), Duration::from_mins(1)).await;
        assert!(matches!(outcome, Err(SessionError::Closed)), "{outcome:?}");
    }
}
