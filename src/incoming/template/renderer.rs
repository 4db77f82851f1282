//! [`Renderer`]: gives each template a process of its own, for so long and no longer.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounterVec;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;

use super::protocol::{Answer, MAX_ANSWER, Request, Sample};
use super::{Template, TemplateError};
use crate::domain::AccountId;
use crate::incoming::payload::Payload;
use crate::turns::Turns;

/// Most templates at work at a time. Each takes a processor, and at its worst all the memory that it may.
const AT_A_TIME: usize = 2;

/// Longest wait of a template for its turn. Whoever posts waits meanwhile, seldom for more than ten seconds.
const WAIT: Duration = Duration::from_secs(4);

/// Longest time of one rendering by the clock, also on a machine that is busy; its own processor time ends before.
const TIME: Duration = Duration::from_secs(5);

/// Longest piece of what a process says of its failure, in bytes.
const MAX_COMPLAINT: u64 = 2_048;

/// Where Linux has the file that this process runs, also after another has taken its name.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Fills templates.
#[derive(Debug)]
pub struct Renderer {
    program: PathBuf,
    /// One template of an account at a time, so that one account alone keeps nobody else from rendering.
    turns: Arc<Turns>,
    places: Semaphore,
    outcomes: IntCounterVec,
}

impl Renderer {
    /// Renders with `program`, which is spaces-bridge; by default the file that this process runs.
    pub fn new(program: Option<PathBuf>, outcomes: IntCounterVec) -> std::io::Result<Self> {
        let program = match program {
            Some(program) => program,
            None if Path::new(OWN_PROGRAM).exists() => OWN_PROGRAM.into(),
            None => std::env::current_exe()?,
        };
        Ok(Self { program, turns: Arc::default(), places: Semaphore::new(AT_A_TIME), outcomes })
    }

    /// Whether `template` can be read.
    pub async fn check(&self, account: &AccountId, template: &Template) -> Result<(), TemplateError> {
        template.check_size()?;
        self.answer(account, Request { template: template.clone(), sample: None }).await.map(drop)
    }

    /// What `template` makes of `payload`, which its sender calls `event`.
    pub(in crate::incoming) async fn fill(
        &self,
        account: &AccountId,
        template: &Template,
        (payload, event): (&Payload, Option<&str>),
    ) -> Result<String, TemplateError> {
        let payload = match payload {
            Payload::Text(text) => Value::String(text.clone()),
            Payload::Json(value) => value.clone(),
        };
        let sample = Sample { payload, event: event.map(str::to_owned) };
        self.answer(account, Request { template: template.clone(), sample: Some(sample) }).await
    }

    async fn answer(&self, account: &AccountId, request: Request) -> Result<String, TemplateError> {
        let result = self.in_turn(account, request).await;
        let outcome = result.as_ref().map_or_else(TemplateError::as_str, |_| "done");
        self.outcomes.with_label_values(&[outcome]).inc();
        result
    }

    async fn in_turn(&self, account: &AccountId, request: Request) -> Result<String, TemplateError> {
        let deadline = Instant::now() + WAIT;
        let _turn = self.turns.take(account.to_string(), deadline).await.ok_or(TemplateError::Busy)?;
        let place = timeout_at(deadline, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else { return Err(TemplateError::Busy) };
        let request = serde_json::to_vec(&request).map_err(|error| unavailable("ask", &error))?;
        let mut child = self.start().map_err(|error| unavailable("start", &error))?;
        let ended = timeout(TIME, converse(&mut child, &request)).await;
        let Ok(ended) = ended else {
            child.kill().await.map_err(|error| unavailable("end", &error))?;
            return Err(TemplateError::TooSlow);
        };
        ended.map_err(|error| unavailable("hear", &error))?.into_result()
    }

    /// Starts the process, with nothing of this one's environment.
    fn start(&self) -> std::io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.arg0("spaces-bridge").arg("render").env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()
    }
}

/// How a process ended.
struct Ended {
    status: ExitStatus,
    answer: Vec<u8>,
    complaint: Vec<u8>,
}

/// Hands a process its request, and waits for its end.
async fn converse(child: &mut Child, request: &[u8]) -> std::io::Result<Ended> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let ask = async {
        if let Some(mut stdin) = stdin {
            // One that ends before it has heard everything says by its end why.
            let _ = stdin.write_all(request).await;
        }
    };
    let ((), answer, complaint) = tokio::join!(ask, beginning(stdout, MAX_ANSWER), beginning(stderr, MAX_COMPLAINT));
    Ok(Ended { status: child.wait().await?, answer: answer?, complaint: complaint? })
}

/// The first bytes of what comes. Whoever writes more gets no further.
async fn beginning(pipe: Option<impl AsyncRead + Unpin>, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(most).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

impl Ended {
    fn into_result(self) -> Result<String, TemplateError> {
        match self.status.signal().and_then(Signal::from_named_raw) {
            Some(Signal::XCPU) => Err(TemplateError::TooSlow),
            // What cannot be allocated aborts, a stack that cannot grow is a fault, and the system's last resort kills.
            Some(Signal::ABORT | Signal::SEGV | Signal::BUS | Signal::KILL) => Err(TemplateError::TooHungry),
            None if self.status.success() => match serde_json::from_slice::<Answer>(&self.answer) {
                Ok(answer) => answer.into_result(),
                Err(_) => Err(self.unexpected()),
            },
            Some(_) | None => Err(self.unexpected()),
        }
    }

    fn unexpected(&self) -> TemplateError {
        let complaint = String::from_utf8_lossy(&self.complaint);
        warn!(status = %self.status, complaint = complaint.trim(), "the process that renders templates failed");
        TemplateError::Unavailable
    }
}

fn unavailable(what: &'static str, error: &(dyn std::error::Error + 'static)) -> TemplateError {
    warn!(error, "cannot {what} a process that renders a template");
    TemplateError::Unavailable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: i32, answer: &str) -> Result<String, TemplateError> {
        let status = ExitStatus::from_raw(status);
        Ended { status, answer: answer.as_bytes().to_vec(), complaint: b"it failed\n".to_vec() }.into_result()
    }

    #[test]
    fn how_a_process_ends_says_what_became_of_the_template() {
        let exited = |code: i32| code << 8;
        let done = r#"{"made":"a"}"#;
        for (status, answer, expected) in [
            (exited(0), done, Ok("a".to_owned())),
            (exited(0), r#"{"syntax":"b"}"#, Err(TemplateError::Syntax("b".to_owned()))),
            (exited(0), r#"{"failed":"c"}"#, Err(TemplateError::Failed("c".to_owned()))),
            (exited(0), r#""too_costly""#, Err(TemplateError::TooCostly)),
            (exited(0), r#""too_long""#, Err(TemplateError::TooLong)),
            (exited(0), "", Err(TemplateError::Unavailable)),
            (exited(0), r#"{"made":"#, Err(TemplateError::Unavailable)),
            (exited(1), done, Err(TemplateError::Unavailable)),
            (Signal::XCPU.as_raw(), done, Err(TemplateError::TooSlow)),
            (Signal::ABORT.as_raw(), "", Err(TemplateError::TooHungry)),
            (Signal::SEGV.as_raw(), "", Err(TemplateError::TooHungry)),
            (Signal::KILL.as_raw(), "", Err(TemplateError::TooHungry)),
            (Signal::TERM.as_raw(), "", Err(TemplateError::Unavailable)),
        ] {
            assert_eq!(ended(status, answer), expected, "{status} {answer}");
        }
    }

    #[tokio::test]
    async fn no_more_is_read_than_an_answer_may_have() {
        let endless = tokio::io::repeat(b'x');
        assert_eq!(beginning(Some(endless), 3).await.expect("it is read"), b"xxx");
    }

    #[tokio::test]
    async fn a_process_that_cannot_be_started_is_no_fault_of_the_template() {
        let outcomes = IntCounterVec::new(prometheus::Opts::new("renderings", "by outcome"), &["outcome"]).expect("a counter");
        let renderer = Renderer::new(Some("/nowhere/spaces-bridge".into()), outcomes.clone()).expect("a renderer");
        let template = Template { source: "a".to_owned(), output: super::super::TemplateOutput::Text };
        let account = AccountId::of_user("u1").expect("an account");
        let error = renderer.check(&account, &template).await.expect_err("there is no such program");
        assert!(error.is_ours() && error == TemplateError::Unavailable, "{error}");
        assert_eq!(outcomes.with_label_values(&["unavailable"]).get(), 1);
    }
}
