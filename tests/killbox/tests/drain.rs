//! A process that is asked to end, by SIGTERM, under load.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use killbox::{Answer, Post, Server, Unfinished, World};

/// Clients that pay, one payment after the other.
const CLIENTS: usize = 8;

fn code(answer: &Answer) -> String {
    answer.json()["code"].as_str().unwrap_or_default().to_owned()
}

/// Sends a payment, and hangs up once it is at work: it goes on alone.
fn hang_up(server: &Server, post: &Post) {
    let (bytes, before) = (post.bytes(), server.lines_with("pausing"));
    let sent = Unfinished::send(server.address(), &bytes, bytes.len()).expect("sent");
    while server.lines_with("pausing") == before {
        thread::yield_now();
    }
    drop(sent);
}

/// At most once: an attempt that was cut off would be `outcome-unknown`.
#[test]
fn while_the_deadline_is_long_enough_nothing_is_lost() {
    let world = World::new(&["--opaque"]);
    let server = world.start();
    let alone = Post::new("alone");
    hang_up(&server, &alone.demo("pause-before-response=1500"));
    let (drains, paid) = (AtomicBool::new(false), AtomicUsize::new(0));
    let open = Mutex::new(Vec::new());
    let refused = AtomicUsize::new(0);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, drains, paid, open, refused) = (&server, &drains, &paid, &open, &refused);
            scope.spawn(move || {
                for number in 0.. {
                    let post = Post::new(&format!("{client}-{number}"));
                    match server.try_post(&post.demo("slow=30")) {
                        Ok(answer) if answer.status == 201 => {
                            paid.fetch_add(1, Ordering::SeqCst);
                        }
                        Ok(answer) => {
                            assert_eq!((answer.status, code(&answer).as_str()), (503, "draining"), "{answer:?}");
                            assert_eq!(answer.header("retry-after"), Some("1"));
                            refused.fetch_add(1, Ordering::SeqCst);
                            open.lock().unwrap().push(post);
                        }
                        // It ends at last: this one never got there.
                        Err(_) if drains.load(Ordering::SeqCst) => return open.lock().unwrap().push(post),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        while paid.load(Ordering::SeqCst) < 3 * CLIENTS {
            thread::yield_now();
        }
        drains.store(true, Ordering::SeqCst);
        server.terminate();
    });
    server.wait_for("drained: all that was begun has ended");
    let unknown = ["released:", "The outcome is unknown"].map(|text| server.lines_with(text));
    assert_eq!(unknown, [0, 0], "{:#?}", server.lines());
    assert!(server.ended().success());
    assert!(refused.load(Ordering::SeqCst) > 0, "the drain had something to refuse");

    // The same key, in the next process: each is paid once.
    let server = world.start();
    let alone = server.post(&alone);
    assert!(alone.status == 201 && alone.is_replay(), "{alone:?}");
    for post in open.into_inner().unwrap() {
        let answer = server.post(&post);
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let charges = world.charges();
    assert!(charges.len() > 3 * CLIENTS && charges.values().all(|count| *count == 1), "{charges:?}");
}

/// What it says that it left is what it left, and another process finishes it.
#[test]
fn what_a_short_deadline_leaves_is_named_and_finished_by_the_next_process() {
    let world = World::new(&["--drain", "0.3"]);
    let server = world.start();
    let left: Vec<_> = ["a", "b"].map(Post::new).into();
    for post in &left {
        hang_up(&server, &post.demo("pause-after-charge=60000"));
    }
    let done = Post::new("done");
    assert_eq!(server.post(&done).status, 201);
    server.wait_for("completed:");
    // Which are at work, by what the process says of each.
    let at_work = |what: &str| {
        let lines = server.lines().into_iter().filter(|line| line.contains(what));
        lines.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect::<BTreeSet<_>>()
    };
    let expected: BTreeSet<_> = at_work("claimed:").difference(&at_work("completed:")).cloned().collect();
    assert_eq!(expected.len(), 2);
    server.terminate();
    let said = server.wait_for("drained until the deadline");
    assert!(said.contains("operations left: 2 (") && said.ends_with("other tasks left: 0"), "{said}");
    for key in &expected {
        assert!(said.contains(key.as_str()), "{key}: {said}");
    }
    assert_eq!(said.matches("attempt 1, resumable").count(), 2, "{said}");
    assert!(server.ended().success());

    let server = world.start();
    for post in &left {
        let answer = server.post(post);
        assert_eq!(answer.status, 201, "resumed: {answer:?}");
    }
    assert!(server.post(&done).is_replay());
    assert_eq!(world.charges().into_values().collect::<Vec<_>>(), [1; 3]);
}
