//! The mail: sent so that it is known what came of it, as far as that can be known.

use std::fmt;
use std::time::{Duration, Instant};

use lettre::message::header::ContentType;
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail as From, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, Message};
use reqwest::StatusCode;
use tower_idempotency::Operation;

use crate::demo::{Demo, Point};
use crate::options::Options;

/// How long the mail server may take for what comes before the content.
const OPENING: Duration = Duration::from_secs(30);

/// How long it may take for the content. RFC 5321 (4.5.3.2.6) says ten minutes, since a client
/// that gives up earlier does not know what came of it.
const TAKING: Duration = Duration::from_secs(600);

/// How often it is asked whether a mail was taken, while it still works on one.
const ASKED: u32 = 40;

pub(crate) struct Mail<'a> {
    /// What its Message-ID is made of: the same on each attempt.
    pub(crate) id: &'a str,
    pub(crate) run: &'a str,
    pub(crate) period: &'a str,
    pub(crate) file: &'a str,
    pub(crate) csv: &'a [u8],
}

/// Why there is no word that the mail was taken.
#[derive(Debug)]
pub(crate) enum MailError {
    /// It was not taken, and will not be.
    NotSent(String),
    /// It may have been taken.
    InDoubt(String),
}

impl MailError {
    pub(crate) const fn is_not_sent(&self) -> bool {
        matches!(self, Self::NotSent(_))
    }

    fn not_sent(error: impl fmt::Display) -> Self {
        Self::NotSent(error.to_string())
    }
}

impl fmt::Display for MailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(why) => write!(f, "the mail was not sent: {why}"),
            Self::InDoubt(why) => write!(f, "it is in doubt whether the mail was sent: {why}"),
        }
    }
}

impl std::error::Error for MailError {}

/// Until when this attempt is the only one at its run.
pub(crate) struct Ours<'a> {
    operation: &'a Operation,
    end: Instant,
}

impl Ours<'_> {
    /// What was stopped for longer than its lease, and wakes up, is not the only one any more:
    /// another instance may have sent the mail meanwhile.
    fn check(&self) -> Result<(), MailError> {
        if Instant::now() >= self.end || self.operation.is_cancelled() {
            return Err(MailError::NotSent("this attempt took longer than its lease".to_owned()));
        }
        Ok(())
    }
}

pub(crate) struct Mailer {
    smtp: String,
    ask: Option<String>,
    from: Address,
    to: Address,
    lease: Duration,
    demo: Demo,
}

impl Mailer {
    pub(crate) fn new(options: Options, demo: Demo) -> Self {
        let Options { smtp, ask, from, to, lease, .. } = options;
        Self { smtp, ask, from, to, lease, demo }
    }

    /// To be called before the step begins: the lease starts anew when the step stores that it
    /// begins, so it lasts longer than this.
    pub(crate) fn is_ours_until<'a>(&self, operation: &'a Operation) -> Ours<'a> {
        Ours { operation, end: Instant::now() + self.lease }
    }

    /// Sends it. Until the last line of the content has gone out no server has taken it.
    pub(crate) async fn send(&self, mail: Mail<'_>, ours: Ours<'_>) -> Result<(), MailError> {
        let content = self.content(&mail).map_err(MailError::not_sent)?;
        self.demo.reached(Point::MailBegun).await;
        let opening = tokio::time::timeout(OPENING, self.open());
        let mut server = opening.await.map_err(MailError::not_sent)?.map_err(MailError::not_sent)?;
        self.demo.reached(Point::MailOpen).await;
        ours.check()?;
        let taking = tokio::time::timeout(TAKING, server.message(&content));
        match taking.await {
            Ok(Ok(_)) => {}
            // A response is a word, and says that it was refused.
            Ok(Err(error)) if error.status().is_some() => return Err(MailError::not_sent(error)),
            Ok(Err(error)) => return Err(MailError::InDoubt(error.to_string())),
            Err(late) => return Err(MailError::InDoubt(late.to_string())),
        }
        self.demo.reached(Point::MailTaken).await;
        // It was taken, whatever becomes of this.
        let _ = tokio::time::timeout(OPENING, server.quit()).await;
        Ok(())
    }

    /// Up to where the server waits for the content.
    async fn open(&self) -> Result<AsyncSmtpConnection, lettre::transport::smtp::Error> {
        let name = ClientId::Domain(self.from.domain().to_owned());
        let mut server = AsyncSmtpConnection::connect_tokio1(&self.smtp, Some(OPENING), &name, None, None).await?;
        server.command(From::new(Some(self.from.clone()), Vec::new())).await?;
        server.command(Rcpt::new(self.to.clone(), Vec::new())).await?;
        server.command(Data).await?;
        Ok(server)
    }

    fn content(&self, mail: &Mail<'_>) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let mailbox = |address: &Address| Mailbox::new(None, address.clone());
        let Mail { run, period, file, .. } = mail;
        let text = format!("What was sold before {period} is in {file}.\r\n\r\nRun {run}\r\n");
        let csv = Attachment::new((*file).to_owned()).body(mail.csv.to_vec(), ContentType::parse("text/csv")?);
        let message = Message::builder()
            .message_id(Some(format!("<{}@{}>", mail.id, self.from.domain())))
            .from(mailbox(&self.from))
            .to(mailbox(&self.to))
            .subject(format!("Sales before {period} (run {run:.12})"))
            .multipart(MultiPart::mixed().singlepart(SinglePart::plain(text)).singlepart(csv))?;
        Ok(message.formatted())
    }

    /// Whether the mail with this id was taken. `false` says that it will not be, either: the
    /// server is still asked while it works on any mail.
    pub(crate) async fn was_taken(&self, id: &str) -> Result<bool, String> {
        let ask = self.ask.as_deref().ok_or("there is nothing to ask; name it with --ask")?;
        let url = format!("http://{ask}/mails/{id}@{}", self.from.domain());
        for _ in 0..ASKED {
            let response = reqwest::get(&url).await.map_err(|error| error.to_string())?;
            match response.status() {
                StatusCode::OK => return Ok(true),
                StatusCode::NOT_FOUND => return Ok(false),
                StatusCode::CONFLICT => tokio::time::sleep(Duration::from_millis(500)).await,
                status => return Err(format!("{ask} responded {status}")),
            }
        }
        Err(format!("{ask} still works on a mail"))
    }
}
