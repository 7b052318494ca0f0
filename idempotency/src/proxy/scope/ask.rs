//! The client as another service says, which is asked about each request that may have a key.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::Denied;
use crate::proxy::arrival::Arrival;
use crate::proxy::config::AuthRequest;
use crate::proxy::forward;
use crate::proxy::lanes::OfEach;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

const METHOD: HeaderName = HeaderName::from_static("x-original-method");
const URI: HeaderName = HeaderName::from_static("x-original-uri");

/// The service that authenticates.
#[derive(Debug)]
pub(crate) struct Authenticator {
    clients: OfEach<Client<HttpConnector, Empty<Bytes>>>,
    uri: Uri,
    header: HeaderName,
}

impl Authenticator {
    pub(crate) fn new(settings: &AuthRequest) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = || Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector.clone());
        Self { clients: OfEach::new(client), uri: settings.url.0.clone(), header: settings.header.0.clone() }
    }

    /// Sends it the head of a request: it lets it in, and says whose it is, or it does not.
    pub(crate) async fn client(&self, parts: &Parts, arrival: &Arrival) -> Result<Option<String>, Denied> {
        let response = tokio::time::timeout(PATIENCE, self.clients.here().request(self.question(parts, arrival))).await;
        let response = response.map_err(|_| Denied::NoAnswer)?.map_err(|_| Denied::NoAnswer)?;
        match response.status() {
            status if status.is_success() => {
                Ok(forward::only_line(response.headers(), &self.header).map(str::to_owned))
            }
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter().cloned().collect();
                Err(Denied::Rejected(status, challenges))
            }
            _ => Err(Denied::NoAnswer),
        }
    }

    fn question(&self, parts: &Parts, arrival: &Arrival) -> Request<Empty<Bytes>> {
        let mut headers = parts.headers.clone();
        forward::request(&mut headers, &parts.uri, arrival);
        for name in [CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST] {
            headers.remove(name);
        }
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        for (name, value) in [(METHOD, parts.method.as_str()), (URI, path)] {
            // The client's own never goes there. Of a path, all bytes do: it need not be ASCII.
            headers.remove(&name);
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.insert(name, value);
            }
        }
        let mut question = Request::new(Empty::new());
        *question.method_mut() = Method::GET;
        *question.uri_mut() = self.uri.clone();
        *question.headers_mut() = headers;
        question
    }
}
