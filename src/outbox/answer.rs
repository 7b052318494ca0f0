//! What a response means for a call: its end, another try, or an operator.

use std::time::Duration;

use http::{StatusCode, Uri};

use super::sender::Answer;
use crate::client::verdict::{Verdict, problem_of, verdict};
use crate::client::{ClientError, ClientErrorKind};

/// The longest rest that a server may ask for.
const LONGEST_REST: Duration = Duration::from_secs(24 * 60 * 60);

/// What becomes of a call after a try.
pub(super) enum Next {
    /// It has its final response.
    Ended(Answer),
    /// It is made again, after this rest at least.
    Again { why: String, rest: Duration },
    /// An operator decides, knowing this response, if there is one.
    Attention { why: String, answer: Option<Answer> },
}

/// What becomes of a call to `uri` after this.
pub(super) fn next(sent: Result<Answer, ClientError>, uri: &Uri) -> Next {
    match sent {
        Ok(answer) => after(answer, uri),
        Err(error) => match error.kind() {
            ClientErrorKind::Service(_) | ClientErrorKind::TimedOut | ClientErrorKind::NotFollowed(_) => {
                Next::Again { why: format!("no final response: {error}"), rest: Duration::ZERO }
            }
            // It is as it was kept, and no try changes that.
            _ => Next::Attention { why: format!("it can't be sent: {error}"), answer: None },
        },
    }
}

fn after(answer: Answer, uri: &Uri) -> Next {
    let status = answer.status();
    let said = verdict(status, answer.headers(), uri, || answer.body().clone().ok());
    if let Verdict::Retry(asked) = said {
        let why = format!("not now: {}", described(&answer));
        return Next::Again { why, rest: asked.unwrap_or_default().min(LONGEST_REST) };
    }
    let why = match status {
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            "the server does not know the sender; give the client valid credentials, and let it go on"
        }
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
            "the server has it elsewhere, where the key must not go; declare that server, and send the call there"
        }
        _ if status.is_server_error() => "what the server did is unknown; ask it before you let the call go on",
        _ => return Next::Ended(answer),
    };
    Next::Attention { why: format!("{}: {why}", described(&answer)), answer: Some(answer) }
}

/// The status, and the name of the problem if the server says one.
fn described(answer: &Answer) -> String {
    let status = answer.status().as_u16();
    let name = answer.body().as_ref().ok().and_then(|body| problem_of(body));
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match name.filter(|name| name.len() <= 64 && !name.is_empty() && name.chars().all(is_name)) {
        Some(name) => format!("status {status} {name}"),
        None => format!("status {status}"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Response;

    use super::*;

    fn after(status: u16, headers: &[(&str, &str)], body: &'static str) -> Next {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        let answer = answer.body(Ok(Bytes::from_static(body.as_bytes()))).unwrap();
        next(Ok(answer), &Uri::from_static("https://api.example.com/mails"))
    }

    #[test]
    fn what_the_server_knows_is_the_end() {
        for status in [200, 201, 202, 204, 303, 400, 403, 404, 409, 410, 413, 422] {
            assert!(matches!(after(status, &[], ""), Next::Ended(answer) if answer.status() == status), "{status}");
        }
    }

    #[test]
    fn what_may_pass_is_made_again_when_the_server_says() {
        for status in [408, 425, 429, 502, 503, 504] {
            assert!(matches!(after(status, &[], ""), Next::Again { rest: Duration::ZERO, .. }), "{status}");
        }
        let hour = after(503, &[("retry-after", "3600")], "");
        assert!(matches!(hour, Next::Again { rest, .. } if rest == Duration::from_secs(3600)));
        let century = after(503, &[("retry-after", "3153600000")], "");
        assert!(matches!(century, Next::Again { rest, .. } if rest == LONGEST_REST));
        let interrupted = after(500, &[], r#"{"code":"interrupted"}"#);
        assert!(matches!(interrupted, Next::Again { why, .. } if why == "not now: status 500 interrupted"));
    }

    /// And no response is dropped.
    #[test]
    fn what_is_not_known_is_for_an_operator() {
        for status in [307, 308, 401, 407, 500, 501, 505] {
            let Next::Attention { answer: Some(answer), .. } = after(status, &[], "why") else { panic!("{status}") };
            assert_eq!((answer.status().as_u16(), answer.body().as_ref().unwrap().as_ref()), (status, &b"why"[..]));
        }
        let unknown = after(500, &[], r#"{"type":"urn:tower-idempotency:problem:outcome-unknown"}"#);
        assert!(matches!(unknown, Next::Attention { why, .. } if why.starts_with("status 500 outcome-unknown: ")));
        let lines = after(500, &[], r#"{"code":"a\nb"}"#);
        assert!(matches!(lines, Next::Attention { why, .. } if why.starts_with("status 500: ")));
    }
}
