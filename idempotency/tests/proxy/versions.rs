//! HTTP/2 towards both sides, and sockets of this machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use super::bed::{Message, Proxy, Service, TRUSTING};

/// Says which version it was asked in.
async fn says_version(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let host = request.headers().get_all("host").iter().filter_map(|host| host.to_str().ok()).collect::<String>();
    let text = format!("{:?} {} {host}", request.version(), request.uri().path());
    let _ = request.into_body().collect().await?;
    Ok(Response::new(Full::from(text)))
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let served =
        Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service_fn(says_version)).await;
    drop(served);
}

#[tokio::test]
async fn a_client_may_speak_http_2_without_tls() {
    let service = Service::start();
    let proxy = Proxy::start(service.address, TRUSTING);
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Full<Bytes>>();
    for replayed in [false, true] {
        let request = Request::post(format!("http://{}/payments", proxy.address))
            .header("x-user", "ann")
            .header("idempotency-key", "\"k\"")
            .header("host", "other")
            .header("cookie", "a=1")
            .header("cookie", "b=2");
        let response = client.request(request.body(Full::from("hi")).unwrap()).await.unwrap();
        assert_eq!((response.version(), response.status().as_u16()), (Version::HTTP_2, 201));
        assert_eq!(response.headers().contains_key("idempotent-replayed"), replayed);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "number 1");
    }
    assert_eq!(service.last().header("cookie"), Some("a=1; b=2"));
    assert_eq!(service.last().header("via"), Some("2.0 idempotency"));
    assert_eq!(service.last().header("host"), Some(&*proxy.address.to_string()));
}

#[tokio::test]
async fn a_service_may_speak_http_2_without_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let asked = tokio::task::spawn_blocking(move || {
        let proxy = Proxy::start_with(TempDir::new().unwrap(), &format!("h2c://{address}"), TRUSTING);
        [proxy.pay("/payments", "k").body, proxy.pay("/payments", "k").body]
    });
    assert_eq!(asked.await.unwrap(), ["HTTP/2.0 /payments ", "HTTP/2.0 /payments "]);
}

#[tokio::test]
async fn a_service_may_listen_on_a_socket_of_the_machine() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let asked = tokio::task::spawn_blocking(move || {
        let proxy = Proxy::start_with(folder, &format!("unix:{}", path.display()), TRUSTING);
        [proxy.pay("/payments", "k").body, proxy.pay("/payments", "k").body]
    });
    assert_eq!(asked.await.unwrap(), ["HTTP/1.1 /payments shop", "HTTP/1.1 /payments shop"]);
}

/// A service over h2c that ends each stream so, and how often it was asked.
async fn resets(reason: h2::Reason) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    count.fetch_add(1, Ordering::SeqCst);
                    respond.send_reset(reason);
                }
            });
        }
    });
    (address, asked)
}

/// What a client gets, and what its retry gets.
async fn twice(address: SocketAddr) -> [Message; 2] {
    let asked = tokio::task::spawn_blocking(move || {
        let proxy = Proxy::start_with(TempDir::new().unwrap(), &format!("h2c://{address}"), TRUSTING);
        [proxy.pay("/payments", "k"), proxy.pay("/payments", "k")]
    });
    asked.await.unwrap()
}

/// RFC 9113, section 8.7: nothing was done with it.
#[tokio::test]
async fn a_stream_that_the_service_refuses_was_not_begun_and_any_other_reset_leaves_a_doubt() {
    let (address, asked) = resets(h2::Reason::REFUSED_STREAM).await;
    let got = twice(address).await.map(|got| (got.status(), got.code()));
    assert_eq!(got, [(503, "upstream-refused".to_owned()), (503, "upstream-refused".to_owned())]);
    assert!(asked.load(Ordering::SeqCst) >= 2);

    for reason in [h2::Reason::INTERNAL_ERROR, h2::Reason::CANCEL] {
        let (address, asked) = resets(reason).await;
        let got = twice(address).await.map(|got| got.code());
        assert_eq!(got, ["upstream-broke-off", "outcome-unknown"], "{reason}");
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{reason}");
    }
}
