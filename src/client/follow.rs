//! Operations that a server accepted for later.

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_CHARSET, HeaderMap, HeaderName};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use tower_service::Service;

use super::attempts::Attempts;
use super::body::ReceivedBody;
use super::error::{BoxError, ClientErrorKind};
use super::progress::Progress;
use super::verdict::{Verdict, retry_after, verdict};

/// Among the extensions of a response whose operation the server accepted for later: the
/// status resource.
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::Full;
/// use tower_idempotency::client::Accepted;
///
/// # fn f(response: http::Response<()>) {
/// // Once the result is stored: the server need not keep it any longer.
/// if let Some(accepted) = response.extensions().get::<Accepted>() {
///     let request: http::Request<Full<Bytes>> = accepted.acknowledgement();
///     // client.oneshot(request).await?
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Accepted {
    pub(super) uri: Uri,
    headers: HeaderMap,
}

impl Accepted {
    /// The status resource at `uri`, for who sent this request.
    pub(super) fn new(uri: Uri, request: &Parts, key_header: &HeaderName) -> Self {
        let mut headers = request.headers.clone();
        let is_about_the_request = |name: &HeaderName| {
            let text = name.as_str();
            name == key_header
                || text.starts_with("content-")
                || text.starts_with("if-")
                || matches!(text, "prefer" | "expect" | "te" | "trailer" | "transfer-encoding" | "range")
                || name == ACCEPT
                || name == ACCEPT_CHARSET
        };
        let names: Vec<_> = headers.keys().filter(|name| is_about_the_request(name)).cloned().collect();
        names.iter().for_each(|name| drop(headers.remove(name)));
        Self { uri, headers }
    }

    /// Where the status resource is.
    pub const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// A request that acknowledges the response, with the credentials of the one that was
    /// accepted: the server may forget the response. Send it through the same client, and only
    /// once the response is stored: after that a retry of the request runs anew.
    pub fn acknowledgement<B: From<Bytes>>(&self) -> Request<B> {
        Request::from_parts(self.head(Method::DELETE), B::from(Bytes::new()))
    }

    fn head(&self, method: Method) -> Parts {
        let (mut head, ()) = Request::new(()).into_parts();
        (head.method, head.uri, head.headers) = (method, self.uri.clone(), self.headers.clone());
        head
    }
}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accepted").finish_non_exhaustive()
    }
}

/// Asks until the operation has ended.
pub(super) async fn follow<S, B, R>(attempts: &mut Attempts<S, B>, accepted: &Accepted) -> Result<(), ClientErrorKind>
where
    S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError>>,
    B: From<Bytes>,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    let head = accepted.head(Method::GET);
    let mut failures = 0;
    loop {
        let asked = match attempts.send(&head, &Bytes::new()).await {
            Ok(response) => match look(&response, &accepted.uri)? {
                Look::Progress(progress) => {
                    attempts.policy().on_progress.iter().for_each(|hook| hook(&progress));
                    if progress.has_ended() {
                        return Ok(());
                    }
                    failures = 0;
                    retry_after(response.headers())
                }
                Look::Later => retry_after(response.headers()),
            },
            Err(kind) if attempts.policy().ends_with(&kind) => return Err(kind),
            Err(_) => None,
        };
        failures += 1;
        if !attempts.pace.rest(failures, asked).await {
            return Err(ClientErrorKind::TimedOut);
        }
    }
}

enum Look {
    Progress(Progress),
    Later,
}

fn look<R>(response: &Response<ReceivedBody<R>>, uri: &Uri) -> Result<Look, ClientErrorKind> {
    let status = response.status();
    if status == StatusCode::OK {
        let document = response.body().whole().and_then(|body| Progress::read(&body));
        return document.map(Look::Progress).ok_or(ClientErrorKind::NotFollowed(status));
    }
    match verdict(status, response.headers(), uri, || response.body().whole()) {
        Verdict::Retry(_) => Ok(Look::Later),
        _ => Err(ClientErrorKind::NotFollowed(status)),
    }
}
