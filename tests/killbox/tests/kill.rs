//! Dying, in every way a process can, and what a client sees of it.

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use killbox::{Answer, Post, Server, Unfinished, World, throw};

/// Both are final answers of one operation, and they are the same.
#[track_caller]
fn assert_replay(first: &Answer, second: &Answer) {
    assert!(!first.is_replay() && second.is_replay(), "{first:?} {second:?}");
    assert_eq!(first.essence(), second.essence());
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, kind: &str) {
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (status, Some("application/problem+json")),
        "{answer:?}"
    );
    assert!(answer.json()["type"].as_str().is_some_and(|known| known.ends_with(kind)), "{answer:?}");
}

/// Crashes a payment at a point, restarts, and gives the living.
fn crash(world: &World, post: &Post, point: &str) -> Server {
    let server = world.start();
    server.try_post(&post.demo(point)).expect_err("nobody is left to answer");
    assert!(!server.ended().success());
    world.start()
}

fn resumes_after(point: &str, charged_before: u64) {
    let world = World::new(&[]);
    let post = Post::new("A-17");
    let server = crash(&world, &post, point);
    assert_eq!(server.count(), charged_before);
    let first = server.post(&post);
    assert_eq!(first.status, 201, "{first:?}");
    server.wait_for("resumed: attempt 2");
    assert_eq!(server.count(), 1);
    assert_replay(&first, &server.post(&post));

    // Not only in this process.
    server.kill();
    let server = world.start();
    let third = server.post(&post);
    assert!(third.is_replay());
    assert_eq!(third.essence(), first.essence());
    assert_eq!((server.count(), world.receipts()), (1, (1, 1)));
    let body = first.json();
    let payment = server.get(first.header("location").expect("a location"));
    assert_eq!(payment.json()["charge_id"], body["charge_id"]);
    assert_eq!(payment.json()["payment_id"], body["payment_id"]);
}

#[test]
fn a_crash_before_the_charge_is_resumed() {
    resumes_after("crash-before-charge", 0);
}

#[test]
fn a_crash_after_the_charge_is_resumed_and_not_charged_again() {
    resumes_after("crash-after-charge", 1);
}

#[test]
fn a_crash_before_the_response_is_resumed_and_not_charged_again() {
    resumes_after("crash-before-response", 1);
}

#[test]
fn many_crashes_of_one_payment_end_in_one_charge() {
    let world = World::new(&[]);
    let post = Post::new("A-17");
    // Twice each: a point that was passed for good can't be crashed at again.
    for point in ["crash-before-charge", "crash-after-charge", "crash-before-response"] {
        crash(&world, &post, point).kill();
        crash(&world, &post, point).kill();
    }
    let server = world.start();
    let first = server.post(&post);
    assert_eq!(first.status, 201);
    server.wait_for("resumed: attempt 7");
    assert_replay(&first, &server.post(&post));
    assert_eq!((server.count(), world.receipts()), (1, (1, 1)));
}

fn opaque_crash(point: &str, charged: u64) {
    let world = World::new(&["--opaque"]);
    let post = Post::new("A-17");
    let server = crash(&world, &post, point);
    for _ in 0..3 {
        assert_problem(&server.post(&post), 500, "outcome-unknown");
    }
    // A wrong request under the key is still told so.
    assert_problem(&server.post(&Post::with_body("A-17", "{}")), 422, "key-reused");
    assert_eq!(server.count(), charged);
    let other = Post::new("B-1");
    let first = server.post(&other);
    assert_eq!(first.status, 201);
    assert_replay(&first, &server.post(&other));
    assert_eq!(server.count(), charged + 1);
    server.kill();
    let server = world.start();
    assert_problem(&server.post(&post), 500, "outcome-unknown");
    assert_eq!(server.count(), charged + 1);
}

#[test]
fn without_steps_a_crash_before_the_charge_is_unknown_and_not_run_again() {
    opaque_crash("crash-before-charge", 0);
}

#[test]
fn without_steps_a_crash_after_the_charge_is_unknown_and_not_charged_again() {
    opaque_crash("crash-after-charge", 1);
}

#[test]
fn without_steps_a_crash_before_the_response_is_unknown_and_not_charged_again() {
    opaque_crash("crash-before-response", 1);
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().expect("a number"))
}

/// Retries until there is a final answer, whatever dies meanwhile.
fn insist(server: &Mutex<Option<Server>>, post: &Post, over: &AtomicBool) -> Option<Answer> {
    while !over.load(Ordering::Relaxed) {
        let address = server.lock().unwrap().as_ref().map(Server::address);
        match address.map(|address| killbox::exchange(address, &post.bytes())) {
            Some(Ok(answer)) if !matches!(answer.status, 409 | 503) => return Some(answer),
            // In progress, interrupted, or nobody there.
            _ => std::thread::sleep(Duration::from_millis(3)),
        }
    }
    None
}

/// Clients hammer on a few keys each while the process is killed and started
/// again, at moments drawn from the seed.
fn hammer(options: &[&'static str], settle: impl Fn(&World, &[(Post, Vec<Answer>)])) {
    let seed = number("KILL_SEED", fastrand::u64(..));
    let rounds = number("KILL_ROUNDS", 10);
    eprintln!("KILL_SEED={seed} KILL_ROUNDS={rounds}");
    let mut random = fastrand::Rng::with_seed(seed);
    let world = World::new(options);
    let server = Mutex::new(None);
    let over = AtomicBool::new(false);
    let seen = Mutex::new(HashMap::<String, (Post, Vec<Answer>)>::new());
    let (mut resumed, mut unknown) = (0, 0);
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (server, over, seen) = (&server, &over, &seen);
            scope.spawn(move || {
                for number in 0.. {
                    let key = format!("order-{client}-{number}");
                    let post = Post::new(&key);
                    // Slow enough that most kills hit something.
                    let slow = post.demo("slow=5");
                    for post in [&slow, &post] {
                        let answer = insist(server, post, over);
                        let mut seen = seen.lock().unwrap();
                        let entry = seen.entry(key.clone()).or_insert_with(|| (post.clone(), Vec::new()));
                        entry.1.extend(answer);
                    }
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        for _ in 0..rounds {
            *server.lock().unwrap() = Some(world.start());
            std::thread::sleep(Duration::from_millis(random.u64(10..200)));
            let killed = server.lock().unwrap().take().expect("started");
            resumed += killed.lines_with("resumed: ");
            unknown += killed.lines_with("outcome is unknown");
            killed.kill();
        }
        over.store(true, Ordering::Relaxed);
    });
    let mut seen: Vec<_> = seen.into_inner().unwrap().into_values().collect();
    eprintln!("{} payments, {resumed} resumed, {unknown} unknown", seen.len());
    assert!(seen.len() > 4, "the clients got nowhere");
    assert!(rounds < 10 || resumed + unknown > 0, "nothing was hit");
    let server = world.start();
    for (post, answers) in &mut seen {
        for _ in 0..2 {
            answers.push(server.post(post));
        }
    }
    settle(&world, &seen);
}

#[test]
fn killed_at_random_every_payment_is_charged_once() {
    hammer(&[], |world, seen| {
        for (post, answers) in seen {
            for answer in answers {
                assert_eq!(answer.status, 201, "{post:?} {answer:?}");
                assert_eq!(answer.essence(), answers[0].essence(), "{post:?}");
            }
            assert!(answers.last().is_some_and(Answer::is_replay));
        }
        let charges = world.charges();
        assert_eq!(charges.len(), seen.len());
        assert!(charges.values().all(|count| *count == 1), "{charges:?}");
        assert_eq!(world.receipts(), (seen.len(), seen.len()));
    });
}

#[test]
fn killed_at_random_without_steps_no_payment_is_charged_twice() {
    hammer(&["--opaque"], |world, seen| {
        let charges = world.charges();
        assert!(charges.values().all(|count| *count == 1), "{charges:?}");
        for (post, answers) in seen {
            let last = answers.last().expect("an answer");
            match last.status {
                201 => assert!(last.is_replay()),
                _ => assert_problem(last, 500, "outcome-unknown"),
            }
            // Whatever was answered once is answered ever after.
            for answer in answers {
                assert_eq!(answer.essence(), last.essence(), "{post:?}");
            }
        }
    });
}

/// Stops the process in the middle of a payment for longer than its lease,
/// while another client asks for the same.
fn stopped(options: &[&'static str]) -> (World, Server, Answer, Answer) {
    let world = World::new(options);
    let server = world.start();
    let post = Post::new("A-17");
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| server.post(&post.demo("slow=300")));
        server.wait_for("claimed");
        server.stop();
        let second = scope.spawn(|| server.post(&post));
        // What is tested is that time goes by.
        std::thread::sleep(Duration::from_millis(1500));
        server.go_on();
        (first.join().unwrap(), second.join().unwrap())
    });
    (world, server, first, second)
}

#[test]
fn stopped_for_longer_than_the_lease_it_charges_once_and_answers_truly() {
    let (world, server, first, second) = stopped(&["--lease", "1"]);
    let last = server.post(&Post::new("A-17"));
    assert_eq!(last.status, 201);
    assert!(last.is_replay());
    // The first client asked before the stop. It has the answer, unless the
    // second took over while nobody held the lease.
    for answer in [&first, &second] {
        match answer.status {
            409 => assert_problem(answer, 409, "in-progress"),
            _ => assert_eq!(answer.essence(), last.essence()),
        }
    }
    assert!(first.status == 201 || second.status == 201, "{first:?} {second:?}");
    assert_eq!((server.count(), world.receipts()), (1, (1, 1)));
}

#[test]
fn stopped_for_longer_than_the_lease_without_steps_it_charges_once() {
    let (_world, server, first, second) = stopped(&["--lease", "1", "--opaque"]);
    assert_eq!(first.status, 201, "{first:?}");
    match second.status {
        201 => assert_replay(&first, &second),
        409 => assert_problem(&second, 409, "in-progress"),
        _ => assert_problem(&second, 500, "outcome-unknown"),
    }
    assert_replay(&first, &server.post(&Post::new("A-17")));
    assert_eq!(server.count(), 1);
}

#[test]
fn a_payment_longer_than_the_lease_is_not_taken_over() {
    // Long enough for a busy machine to renew it in time.
    let world = World::new(&["--lease", "1"]);
    let server = world.start();
    let post = Post::new("A-17");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| server.post(&post.demo("slow=2500")));
        server.wait_for("charge: intent stored");
        while !first.is_finished() {
            let answer = server.post(&post);
            if answer.status == 409 {
                assert_problem(&answer, 409, "in-progress");
            } else {
                assert!(answer.is_replay(), "{answer:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_replay(&first.join().unwrap(), &server.post(&post));
    });
    assert_eq!(server.count(), 1);
}

#[test]
fn asked_to_end_it_finishes_what_runs() {
    let world = World::new(&[]);
    let server = world.start();
    let post = Post::new("A-17");
    let first = std::thread::scope(|scope| {
        let first = scope.spawn(|| server.post(&post.demo("slow=300")));
        server.wait_for("charge: intent stored");
        server.terminate();
        first.join().unwrap()
    });
    assert_eq!(first.status, 201);
    assert!(server.ended().success());
    let server = world.start();
    assert_replay(&first, &server.post(&post));
    assert_eq!(server.count(), 1);
}

#[test]
fn what_it_can_not_use_is_told_in_one_line() {
    let world = World::new(&[]);
    let server = world.start();
    let address = server.address().to_string();
    std::fs::create_dir(world.path().join("photos")).unwrap();
    std::fs::write(world.path().join("photos/cat.jpg"), "cat").unwrap();
    std::fs::write(world.path().join("diary"), "Dear diary\n").unwrap();
    let cases: [(&[&str], &str); 10] = [
        (&["--store", "sqlite:photos"], "is no file"),
        (&["--store", "sqlite:photos/cat.jpg"], "is no SQLite database"),
        (&["--store", "mysql://localhost"], "memory:"),
        (&["--store", "memory:", "--gateway-log", "/nowhere/gateway.log"], "--gateway-log"),
        (&["--store", "memory:", "--gateway-log", "diary"], "--gateway-log"),
        (&["--store", "memory:", "--gateway-log", "other.log", "--listen", &address], "--listen"),
        (&["--store", "memory:", "--gateway-log", "other.log", "--listen", "everywhere"], "--listen"),
        (&["--lease", "-1"], "0.01 to 86400"),
        (&["--lease", "NaN"], "0.01 to 86400"),
        (&["--frobnicate"], "--help"),
    ];
    for (options, hint) in cases {
        let output = world.run(options);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{options:?} {error}");
        assert!(error.starts_with("error: ") && error.contains(hint), "{options:?} {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    assert_eq!(std::fs::read_to_string(world.path().join("diary")).unwrap(), "Dear diary\n");
    // The one that was there first is none the worse.
    assert_eq!(server.post(&Post::new("A-17")).status, 201);
}

#[test]
fn of_200_at_once_one_is_charged() {
    let world = World::new(&[]);
    let server = world.start();
    let post = Post::new("A-17").demo("slow=300");
    let answers: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..200).map(|_| scope.spawn(|| server.post(&post))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let last = server.post(&post);
    assert!(last.is_replay() && last.status == 201);
    let first: Vec<_> = answers.iter().filter(|answer| answer.status == 201 && !answer.is_replay()).collect();
    assert_eq!(first.len(), 1);
    for answer in &answers {
        match answer.status {
            201 => assert_eq!(answer.essence(), last.essence()),
            _ => assert_problem(answer, 409, "in-progress"),
        }
    }
    assert!(answers.iter().any(|answer| answer.status == 409), "they did not meet");
    assert_eq!((server.count(), world.receipts()), (1, (1, 1)));
}

#[test]
fn a_client_that_hangs_up_is_charged_once_and_gets_its_answer_later() {
    let world = World::new(&[]);
    let server = world.start();
    let post = Post::new("A-17");
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(&post.demo("slow=200").bytes()).unwrap();
    server.wait_for("charge: intent stored");
    drop(stream);
    server.wait_for("completed");
    let answer = server.post(&post);
    assert!(answer.is_replay() && answer.status == 201, "{answer:?}");
    assert_eq!((server.count(), world.receipts()), (1, (1, 1)));
}

#[test]
fn a_client_that_hung_up_before_the_end_of_the_process_is_charged_once() {
    let world = World::new(&[]);
    let server = world.start();
    let post = Post::new("A-17");
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(&post.demo("slow=300").bytes()).unwrap();
    server.wait_for("charge: intent stored");
    drop(stream);
    server.terminate();
    assert!(server.ended().success());
    let server = world.start();
    let answer = server.post(&post);
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(answer.is_replay(), "the process waited for it");
    assert_eq!(answer.essence(), server.post(&post).essence());
    assert_eq!((server.count(), world.receipts()), (1, (1, 1)));
}

/// Idle connections have them all. Who got in is served, and so is everybody once
/// there are some again: nothing has to be started anew.
#[test]
fn without_a_descriptor_left_it_goes_on() {
    const MOST: usize = 64;
    let world = World::new(&[]);
    let server = world.start();
    let before = server.post(&Post::new("before"));
    let posts: Vec<_> = (0..4).map(|n| Post::new(&format!("order-{n}"))).collect();
    let half = |post: &Post| Unfinished::send(server.address(), &post.bytes(), 20).expect("it listens");
    let halves: Vec<_> = posts.iter().map(half).collect();
    server.get("/gateway");
    server.limit_descriptors(MOST as u64);
    let idle: Vec<_> = (0..MOST + 16).map(|_| TcpStream::connect(server.address()).expect("it listens")).collect();
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.descriptors() < MOST {
        assert!(Instant::now() < deadline, "{} descriptors", server.descriptors());
        std::thread::sleep(Duration::from_millis(5));
    }
    let answers: Vec<_> = halves.into_iter().map(|half| half.finish().expect("an answer")).collect();
    drop(idle);
    assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
    for (post, answer) in posts.iter().zip(&answers) {
        assert_replay(answer, &server.post(post));
    }
    assert_replay(&before, &server.post(&Post::new("before")));
    assert_eq!(server.post(&Post::new("after")).status, 201);
    assert_eq!((server.count(), world.receipts()), (6, (6, 6)));
}

#[test]
fn a_charge_that_the_gateway_never_acknowledged_was_not_made() {
    let world = World::new(&[]);
    let server = world.start();
    let first = server.post(&Post::new("A-17"));
    server.kill();
    let mut log = std::fs::OpenOptions::new().append(true).open(world.gateway_log()).unwrap();
    log.write_all(br#"{"charge":{"id":"ch_0","key":"#).unwrap();
    let server = world.start();
    assert_eq!(server.count(), 1);
    assert_replay(&first, &server.post(&Post::new("A-17")));
    assert_eq!(server.post(&Post::new("B-1")).status, 201);
    assert_eq!(server.count(), 2);
}

#[test]
fn a_declined_card_stays_declined() {
    for options in [&[][..], &["--opaque"]] {
        let world = World::new(options);
        let server = world.start();
        let post = Post::new("A-17");
        let first = server.post(&post.demo("decline"));
        assert_eq!((first.status, first.header("content-type")), (402, Some("application/problem+json")));
        assert_replay(&first, &server.post(&post));
        server.kill();
        let server = world.start();
        assert_replay(&first, &server.post(&post));
        assert_eq!(server.count(), 0);
    }
}

#[test]
fn a_gateway_that_is_down_is_asked_again() {
    for options in [&[][..], &["--opaque"]] {
        let world = World::new(options);
        let server = world.start();
        let post = Post::new("A-17");
        for _ in 0..2 {
            let down = server.post(&post.demo("gateway-down"));
            assert_eq!((down.status, down.header("retry-after")), (503, Some("1")), "{down:?}");
            assert!(!down.is_replay());
        }
        let first = server.post(&post);
        assert_eq!(first.status, 201, "{first:?}");
        assert_replay(&first, &server.post(&post));
        assert_eq!(server.count(), 1);
    }
}

#[test]
fn wrong_requests_are_told_what_is_wrong_and_told_again() {
    let world = World::new(&[]);
    let server = world.start();
    let long = "x".repeat(65);
    let cases = [
        ("{", 400, None),
        ("", 400, None),
        ("[]", 422, Some("order")),
        (r#"{"order":"","amount":1,"currency":"EUR"}"#, 422, Some("order")),
        (r#"{"order":7,"amount":1,"currency":"EUR"}"#, 422, Some("order")),
        (&format!(r#"{{"order":"{long}","amount":1,"currency":"EUR"}}"#), 422, Some("order")),
        (r#"{"order":"A","amount":0,"currency":"EUR"}"#, 422, Some("amount")),
        (r#"{"order":"A","amount":-5,"currency":"EUR"}"#, 422, Some("amount")),
        (r#"{"order":"A","amount":1.5,"currency":"EUR"}"#, 422, Some("amount")),
        (r#"{"order":"A","amount":99999999999999999999,"currency":"EUR"}"#, 422, Some("amount")),
        (r#"{"order":"A","amount":1,"currency":"XXX"}"#, 422, Some("currency")),
        (r#"{"order":"A","amount":1}"#, 422, Some("currency")),
    ];
    for (number, (body, status, field)) in cases.into_iter().enumerate() {
        let post = Post::with_body(&format!("key-{number}"), body);
        let first = server.post(&post);
        assert_problem(&first, status, "about:blank");
        assert_eq!(first.json()["field"].as_str(), field, "{first:?}");
        // No step was reached: the key is free for the request as it should be.
        let again = server.post(&post);
        assert_eq!((again.status, &again.body), (first.status, &first.body));
        assert_eq!(again.header("idempotent-replayed"), None, "{again:?}");
    }
    let corrected = Post::with_body("key-0", r#"{"order":"C","amount":1,"currency":"EUR"}"#);
    assert_eq!(server.post(&corrected).status, 201);
    // What is only wrong with the demonstration is not held against the key.
    let post = Post::new("A-17");
    assert_eq!(server.post(&post.demo("explode")).status, 400);
    assert_eq!(server.post(&post).status, 201);
    let text = String::from_utf8(Post::new("B-1").bytes()).unwrap().replace("application/json", "text/plain");
    assert_eq!(killbox::exchange(server.address(), text.as_bytes()).expect("an answer").status, 415);
    let text = String::from_utf8(Post::new("B-2").bytes()).unwrap().replace("idempotency-key", "x-key");
    assert_problem(&killbox::exchange(server.address(), text.as_bytes()).expect("an answer"), 400, "missing-key");
    assert_eq!(server.count(), 2);
}

#[test]
fn any_bytes_are_a_wrong_request_or_an_ordinary_one() {
    let seed = number("KILL_SEED", fastrand::u64(..));
    eprintln!("KILL_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let world = World::new(&[]);
    let mut server = world.start();
    let (mut paid, mut refused) = (0, 0);
    for round in 0..400 {
        let mut bytes = Post::new(&format!("key-{round}")).bytes();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, random.u8(..)),
                _ => {
                    let piece = bytes[at..(at + random.usize(..30)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        if let Some(answer) = throw(server.address(), &bytes) {
            let text = String::from_utf8_lossy(&bytes);
            assert!(answer.status == 201 || (400..500).contains(&answer.status), "{answer:?} to {text:?}");
            *if answer.status == 201 { &mut paid } else { &mut refused } += 1;
        }
    }
    // And with the key alone, where every byte is the client's.
    for round in 0..200 {
        let key: Vec<u8> =
            (0..random.usize(..300)).map(|_| random.u8(..)).filter(|byte| !b"\r\n".contains(byte)).collect();
        let (head, tail) =
            (b"POST /payments HTTP/1.1\r\nhost: shop\r\nconnection: close\r\nidempotency-key: ", b"\r\n");
        let rest = format!("content-type: application/json\r\ncontent-length: 0\r\nx-round: {round}\r\n\r\n");
        let bytes = [head, &key[..], tail, rest.as_bytes()].concat();
        if let Some(answer) = throw(server.address(), &bytes) {
            assert!((400..500).contains(&answer.status), "{answer:?} to {key:?}");
        }
    }
    assert!(refused > 0 && paid > 0, "{refused} refused, {paid} paid");
    assert!(server.is_alive());
    assert_eq!(server.post(&Post::new("A-17")).status, 201);
    assert!(world.charges().values().sum::<usize>() as u64 == server.count());
}
