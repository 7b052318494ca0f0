//! HTTP/2 as a client sees it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Error, Reason, SendStream};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A connection.
pub struct Stream {
    requests: SendRequest<Bytes>,
}

/// A response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Status code and header lines, if they came.
    pub head: Option<(u16, Vec<(String, String)>)>,
    /// The data.
    pub body: Vec<u8>,
    /// Trailer lines.
    pub trailers: Vec<(String, String)>,
    /// Why the stream was reset, if it was.
    pub reset: Option<Reason>,
}

impl Seen {
    /// The status code; 0 if no head came.
    pub fn status(&self) -> u16 {
        self.head.as_ref().map_or(0, |(status, _)| *status)
    }

    /// The value of the first such header line.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, lines) = self.head.as_ref()?;
        lines.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Removes the header lines of this name.
    pub fn without(mut self, name: &str) -> Self {
        if let Some((_, lines)) = &mut self.head {
            lines.retain(|(found, _)| found != name);
        }
        self
    }
}

impl Stream {
    /// To this server.
    pub async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (requests, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async { drop(connection.await) });
        Self { requests }
    }

    /// Sends the head and a part of the body, and leaves the rest to be sent.
    pub async fn begin(&mut self, request: Request<Bytes>) -> Upload {
        let (parts, begun) = request.into_parts();
        let mut requests = self.requests.clone().ready().await.unwrap();
        let (response, mut rest) = requests.send_request(Request::from_parts(parts, ()), false).unwrap();
        rest.send_data(begun, false).unwrap();
        Upload { response, rest }
    }

    /// What comes back for this request.
    pub async fn exchange(&mut self, request: Request<Bytes>) -> Seen {
        let mut seen = Seen::default();
        if let Err(error) = self.receive(request, &mut seen).await {
            seen.reset = Some(error.reason().unwrap_or(Reason::INTERNAL_ERROR));
        }
        seen
    }

    async fn receive(&mut self, request: Request<Bytes>, seen: &mut Seen) -> Result<(), Error> {
        let (parts, body) = request.into_parts();
        let mut requests = self.requests.clone().ready().await?;
        let (response, mut sent) = requests.send_request(Request::from_parts(parts, ()), body.is_empty())?;
        if !body.is_empty() {
            sent.send_data(body, true)?;
        }
        read(response, seen).await
    }
}

/// A request whose body is not all sent.
pub struct Upload {
    response: ResponseFuture,
    rest: SendStream<Bytes>,
}

impl Upload {
    /// What comes back while the rest is not sent.
    pub async fn stalled(self) -> Seen {
        let Self { response, rest } = self;
        let seen = settled(response).await;
        drop(rest);
        seen
    }

    /// Sends the rest.
    pub fn send(&mut self, rest: Bytes) {
        self.rest.send_data(rest, true).unwrap();
    }

    /// Resets the stream, whatever has come of it.
    pub fn reset(mut self) {
        self.rest.send_reset(Reason::CANCEL);
    }

    /// Waits for the head of the answer, leaves its body where it is, and resets the
    /// stream; the status code.
    pub async fn reset_in_the_answer(mut self) -> u16 {
        let answer = (&mut self.response).await.unwrap();
        self.rest.send_reset(Reason::CANCEL);
        answer.status().as_u16()
    }

    /// Sends these trailers, and what comes back then.
    pub async fn end_with(mut self, trailers: HeaderMap) -> Seen {
        self.rest.send_trailers(trailers).unwrap();
        settled(self.response).await
    }

    /// Waits for the head of the answer.
    pub async fn head(mut self) -> Answering {
        let answer = timeout(PATIENCE, &mut self.response).await.expect("the head of an answer").unwrap();
        Answering { headers: answer.headers().clone(), body: answer.into_body(), _rest: self.rest }
    }

    /// What comes back once the rest is sent.
    pub async fn finish(mut self, rest: Bytes) -> Seen {
        self.rest.send_data(rest, true).unwrap();
        settled(self.response).await
    }
}

/// An answer whose head is there.
pub struct Answering {
    /// Its header lines.
    pub headers: HeaderMap,
    body: h2::RecvStream,
    _rest: SendStream<Bytes>,
}

impl Answering {
    /// What comes next of its body; `None` at its end.
    pub async fn data(&mut self) -> Option<Bytes> {
        loop {
            let data = timeout(PATIENCE, self.body.data()).await.expect("data")?.unwrap();
            self.body.flow_control().release_capacity(data.len()).unwrap();
            // What ends a stream may have nothing in it.
            if !data.is_empty() {
                return Some(data);
            }
        }
    }
}

/// Longer than any test lets an upload take.
const PATIENCE: Duration = Duration::from_secs(20);

async fn settled(response: ResponseFuture) -> Seen {
    let mut seen = Seen::default();
    let read = timeout(PATIENCE, read(response, &mut seen)).await.expect("an answer");
    if let Err(error) = read {
        seen.reset = Some(error.reason().unwrap_or(Reason::INTERNAL_ERROR));
    }
    seen
}

async fn read(response: ResponseFuture, seen: &mut Seen) -> Result<(), Error> {
    let (head, mut body) = response.await?.into_parts();
    seen.head = Some((head.status.as_u16(), lines(&head.headers)));
    while let Some(data) = body.data().await {
        let data = data?;
        seen.body.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    seen.trailers = body.trailers().await?.map(|trailers| lines(&trailers)).unwrap_or_default();
    Ok(())
}

fn lines(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}
