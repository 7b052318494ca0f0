//! One connection: as much of RFC 5321 as a client needs to send a mail.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::mailbox::{Fault, Head, Mailbox};

/// How much one connection may send.
const MOST: u64 = 32 << 20;

/// How long it waits for a line.
const PATIENCE: Duration = Duration::from_secs(300);

struct Session {
    reader: BufReader<tokio::io::Take<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

/// Until the client leaves, or breaks off.
pub(crate) async fn run(stream: TcpStream, mailbox: &Mailbox) {
    let (reader, writer) = stream.into_split();
    let mut session = Session { reader: BufReader::new(reader.take(MOST)), writer };
    if let Err(error) = session.serve(mailbox).await {
        crate::say(&format!("a connection broke: {error}"));
    }
}

impl Session {
    async fn serve(&mut self, mailbox: &Mailbox) -> io::Result<()> {
        self.reply("220 sink ESMTP").await?;
        let (mut fault, mut recipients) = (Fault::Accept, 0);
        loop {
            let line = String::from_utf8_lossy(&self.line().await?).to_ascii_uppercase();
            match line.split([' ', '\r', '\n']).next().unwrap_or_default() {
                "EHLO" => self.reply("250-sink\r\n250 8BITMIME").await?,
                "HELO" | "RSET" | "NOOP" => self.reply("250 ok").await?,
                "MAIL" => {
                    (fault, recipients) = (mailbox.next_fault(), 0);
                    let reply = if fault == Fault::Refuse { "451 not now, try again later" } else { "250 ok" };
                    self.reply(reply).await?;
                }
                "RCPT" => {
                    recipients += 1;
                    self.reply("250 ok").await?;
                }
                "DATA" if recipients == 0 => self.reply("503 who gets it? send RCPT first").await?,
                "DATA" => {
                    if !self.data(mailbox, fault).await? {
                        return Ok(());
                    }
                    recipients = 0;
                }
                "QUIT" => return self.reply("221 bye").await,
                _ => self.reply("502 not known here").await?,
            }
        }
    }

    /// Whether the connection is to go on.
    async fn data(&mut self, mailbox: &Mailbox, fault: Fault) -> io::Result<bool> {
        let open = mailbox.begin();
        self.reply("354 go ahead").await?;
        let content = self.content().await?;
        if let Fault::Slow(time) = fault {
            crate::say(&format!("slow: {}", Head::of(&content).subject));
            tokio::time::sleep(time).await;
        }
        match fault {
            Fault::Lose => return Ok(false),
            Fault::Reject => {
                drop(open);
                self.reply("554 not this one").await?;
                return Ok(true);
            }
            _ => open.take(&content)?,
        }
        drop(open);
        if fault == Fault::TakeAndDrop {
            return Ok(false);
        }
        self.reply("250 taken").await?;
        Ok(true)
    }

    /// Up to the line with one dot.
    async fn content(&mut self) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        loop {
            let line = self.line().await?;
            match line.strip_prefix(b".") {
                Some(b"\r\n") => return Ok(content),
                Some(rest) => content.extend_from_slice(rest),
                None => content.extend_from_slice(&line),
            }
        }
    }

    async fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        timeout(PATIENCE, self.reader.read_until(b'\n', &mut line)).await??;
        if line.ends_with(b"\n") { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    async fn reply(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(format!("{text}\r\n").as_bytes()).await
    }
}
