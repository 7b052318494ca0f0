//! What the proxy does to a link is what tests of outages stand on.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use servers::{Fault, Proxy, Trap, Way, wait_until};

/// A server that answers each byte with the same one in upper case, and tells
/// what it got.
fn server() -> (SocketAddr, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let tell = tell.clone();
            std::thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut chunk) {
                    let _ = tell.send(chunk[..count].to_vec());
                    if stream.write_all(&chunk[..count].to_ascii_uppercase()).is_err() {
                        return;
                    }
                }
                // An end is told as nothing.
                let _ = tell.send(Vec::new());
            });
        }
    });
    (address, told)
}

fn client(link: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(link.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, text: &str) -> std::io::Result<String> {
    stream.write_all(text.as_bytes())?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8(answer).unwrap())
}

/// Nothing comes: so far as a moment can tell.
fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let read = stream.read(&mut [0; 1]);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    matches!(read, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

fn is_reset(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 1]), Err(error) if error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn it_passes_on_and_counts() {
    let (address, _told) = server();
    let link = Proxy::to(address);
    let (mut one, mut two) = (client(&link), client(&link));
    assert_eq!(ask(&mut one, "hello").unwrap(), "HELLO");
    assert_eq!(ask(&mut two, "you").unwrap(), "YOU");
    assert_eq!((link.accepted(), link.open(), link.sprung()), (2, 2, 0));
    assert_eq!((link.bytes(Way::Requests), link.bytes(Way::Replies)), (8, 8));
    // Large enough to go in many pieces.
    let large = "x".repeat(1 << 20);
    let mut writer = one.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| writer.write_all(large.as_bytes()).unwrap());
        let mut answer = vec![0; large.len()];
        one.read_exact(&mut answer).unwrap();
        assert!(answer.iter().all(|byte| *byte == b'X'));
    });
    drop((one, writer));
    wait_until("the closed one to be counted", || link.open() == 1);
}

#[test]
fn an_end_is_passed_on_either_way() {
    let (address, told) = server();
    let link = Proxy::to(address);
    let mut stream = client(&link);
    assert_eq!(ask(&mut stream, "a").unwrap(), "A");
    assert_eq!(told.recv().unwrap(), b"a");
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(told.recv().unwrap(), b"", "the server sees the end");
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "an end, not a reset");
}

#[test]
fn cut_it_resets_what_is_there_and_what_comes_until_it_heals() {
    let (address, _told) = server();
    let link = Proxy::to(address);
    let mut before = client(&link);
    assert_eq!(ask(&mut before, "a").unwrap(), "A");
    link.apply(Fault::Cut);
    assert!(is_reset(&mut before));
    assert!(is_reset(&mut client(&link)));
    link.heal();
    assert_eq!(ask(&mut client(&link), "b").unwrap(), "B");
}

#[test]
fn reset_it_is_fine_for_those_that_come_after() {
    let (address, _told) = server();
    let link = Proxy::to(address);
    let mut before = client(&link);
    assert_eq!(ask(&mut before, "a").unwrap(), "A");
    link.apply(Fault::Reset);
    assert!(is_reset(&mut before));
    assert_eq!(ask(&mut client(&link), "b").unwrap(), "B");
}

#[test]
fn held_requests_arrive_late() {
    let (address, told) = server();
    let link = Proxy::to(address);
    let mut stream = client(&link);
    link.apply(Fault::Hold(Way::Requests));
    stream.write_all(b"a").unwrap();
    assert!(is_silent(&mut stream));
    assert!(told.try_recv().is_err());
    link.heal();
    assert_eq!(told.recv().unwrap(), b"a");
    let mut answer = [0; 1];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"A");
}

#[test]
fn held_both_ways_new_connections_wait_too() {
    let (address, told) = server();
    let link = Proxy::to(address);
    link.apply(Fault::HoldBoth);
    let mut stream = client(&link);
    stream.write_all(b"a").unwrap();
    assert!(is_silent(&mut stream));
    link.heal();
    assert_eq!(told.recv().unwrap(), b"a");
}

#[test]
fn lost_replies_were_asked_for_and_reset_when_it_heals() {
    let (address, told) = server();
    let link = Proxy::to(address);
    let mut stream = client(&link);
    link.apply(Fault::Lose(Way::Replies));
    stream.write_all(b"a").unwrap();
    assert_eq!(told.recv().unwrap(), b"a", "the request arrives");
    assert!(is_silent(&mut stream));
    link.heal();
    assert!(is_reset(&mut stream));
    assert_eq!(ask(&mut client(&link), "b").unwrap(), "B");
}

#[test]
fn lost_requests_never_arrive() {
    for fault in [Fault::Lose(Way::Requests), Fault::LoseBoth] {
        let (address, told) = server();
        let link = Proxy::to(address);
        let mut stream = client(&link);
        link.apply(fault);
        stream.write_all(b"a").unwrap();
        assert!(is_silent(&mut stream));
        link.heal();
        assert!(is_reset(&mut stream));
        assert_eq!(told.recv().unwrap(), b"", "an end and nothing before it");
    }
}

#[test]
fn what_lost_nothing_is_not_reset_when_it_heals() {
    let (address, _told) = server();
    let link = Proxy::to(address);
    let mut stream = client(&link);
    assert_eq!(ask(&mut stream, "a").unwrap(), "A");
    link.apply(Fault::LoseBoth);
    link.heal();
    assert_eq!(ask(&mut stream, "b").unwrap(), "B");
}

#[test]
fn a_trap_after_a_pattern_lets_it_arrive_and_loses_the_reply() {
    let (address, told) = server();
    let link = Proxy::to(address);
    let mut stream = client(&link);
    link.set_trap(Trap::after(Way::Requests, b"commit", Fault::Lose(Way::Replies)));
    assert_eq!(ask(&mut stream, "begin").unwrap(), "BEGIN");
    assert_eq!(told.recv().unwrap(), b"begin");
    stream.write_all(b"commit;").unwrap();
    assert_eq!(told.recv().unwrap(), b"commit;");
    assert!(is_silent(&mut stream));
    assert_eq!(link.sprung(), 1);
}

#[test]
fn a_trap_after_a_pattern_lets_it_arrive_and_resets() {
    let (address, told) = server();
    let link = Proxy::to(address);
    let mut stream = client(&link);
    link.set_trap(Trap::after(Way::Requests, b"commit", Fault::Reset));
    stream.write_all(b"commit;").unwrap();
    assert_eq!(told.recv().unwrap(), b"commit;");
    assert!(is_reset(&mut stream));
    // It springs once.
    assert_eq!(ask(&mut client(&link), "commit").unwrap(), "COMMIT");
}

#[test]
fn a_trap_before_a_pattern_keeps_it_back_even_in_pieces() {
    let (address, told) = server();
    let link = Proxy::to(address);
    let mut stream = client(&link);
    link.set_trap(Trap::before(Way::Requests, b"commit", Fault::Cut));
    assert_eq!(ask(&mut stream, "xyz").unwrap(), "XYZ");
    assert_eq!(told.recv().unwrap(), b"xyz");
    assert_eq!(ask(&mut stream, "com").unwrap(), "COM");
    assert_eq!(told.recv().unwrap(), b"com");
    stream.write_all(b"mit;").unwrap();
    assert!(is_reset(&mut stream));
    assert_eq!(told.recv().unwrap(), b"");

    link.heal();
    link.set_trap(Trap::before(Way::Requests, b"commit", Fault::Cut));
    let mut stream = client(&link);
    stream.write_all(b"insert; commit;").unwrap();
    assert!(is_reset(&mut stream));
    assert_eq!(told.recv().unwrap(), b"insert; ");
    assert_eq!(told.recv().unwrap(), b"");
}

#[test]
fn a_trap_on_replies_and_one_by_bytes() {
    let (address, _told) = server();
    let link = Proxy::to(address);
    let mut stream = client(&link);
    link.set_trap(Trap::before(Way::Replies, b"SECRET", Fault::Hold(Way::Replies)));
    stream.write_all(b"secret").unwrap();
    wait_until("the trap to spring", || link.sprung() == 1);
    assert!(is_silent(&mut stream));
    drop(stream);
    link.heal();

    link.set_trap(Trap::after_bytes(Way::Replies, 7, Fault::Reset));
    let mut stream = client(&link);
    assert_eq!(ask(&mut stream, "four").unwrap(), "FOUR");
    stream.write_all(b"four").unwrap();
    let mut answer = [0; 3];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"FOU");
    assert!(is_reset(&mut stream));
}

#[test]
fn it_can_lead_elsewhere() {
    let (nowhere, elsewhere) = (servers::free_port(), server().0);
    let link = Proxy::to(SocketAddr::from(([127, 0, 0, 1], nowhere)));
    assert!(is_reset(&mut client(&link)), "nobody listens there");
    link.redirect(elsewhere);
    assert_eq!(ask(&mut client(&link), "a").unwrap(), "A");
}

#[tokio::test]
async fn it_works_inside_a_runtime() {
    let link = Proxy::to(server().0);
    let asked = tokio::task::spawn_blocking({
        let mut stream = client(&link);
        move || ask(&mut stream, "a")
    });
    assert_eq!(asked.await.unwrap().unwrap(), "A");
    drop(link);
}
