//! A shop of two processes, its outbox, and a mail service: who dies when, each customer gets one
//! mail, and the list says so.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use killbox::{Answer, Server, World, exchange, program};
use serde_json::Value;
use servers::{Fault, Postgres, Proxy, Redis, wait_until};

fn mailer() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| program("mailer"))
}

fn mail_service() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| program("mail_service"))
}

fn address(server: &Server) -> SocketAddr {
    let line = server.wait_for("listening on http://");
    let address = line.trim_start_matches("listening on http://").split(' ').next().expect("an address");
    address.parse().expect("an address")
}

/// A mail service, and two processes of the shop.
struct Shop {
    world: World,
    store: String,
    service: Server,
    processes: Vec<Server>,
    customers: Vec<String>,
}

impl Shop {
    fn open(store: &str) -> Self {
        let world = World::new(&[]);
        std::fs::create_dir(world.path().join("notes")).expect("a folder");
        let service = world.start_other(mail_service(), &["--listen", "127.0.0.1:0", "--folder", "service"]);
        let mut shop = Self { world, store: store.to_owned(), service, processes: Vec::new(), customers: Vec::new() };
        shop.processes = (0..2).map(|number| shop.start(number)).collect();
        shop
    }

    fn start(&self, number: usize) -> Server {
        let (name, service) = (format!("shop-{number}"), format!("http://{}", address(&self.service)));
        let mut arguments = vec!["--name", &name, "--listen", "127.0.0.1:0", "--store", &self.store];
        arguments.extend(["--service", &service, "--demo", "notes"]);
        arguments.extend(["--lease", "1", "--backoff", "0.1", "--poll", "0.2"]);
        let server = self.world.start_other(mailer(), &arguments);
        address(&server);
        server
    }

    fn restart(&mut self, number: usize) {
        self.processes[number] = self.start(number);
    }

    /// Registers a customer with the first process that says so.
    fn register(&mut self, from: usize) {
        let customer = format!("customer-{}", self.customers.len());
        let request = format!(
            "POST /customers/{customer} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        // A customer who hears nothing asks again, until the shop says that it is done.
        wait_until("the shop to register the customer", || {
            let asked = [from, 1 - from].map(|number| exchange(address(&self.processes[number]), request.as_bytes()));
            asked.into_iter().any(|answer: std::io::Result<Answer>| answer.is_ok_and(|answer| answer.status == 202))
        });
        self.customers.push(customer);
    }

    fn note(&self, name: &str) -> PathBuf {
        let note = self.world.path().join("notes").join(name);
        std::fs::write(&note, "").expect("a note");
        note
    }

    fn set_faults(&self, list: &str) {
        let head = "PUT /faults HTTP/1.1\r\nhost: mail\r\nconnection: close\r\n";
        let request = format!("{head}content-length: {}\r\n\r\n{list}", list.len());
        assert_eq!(exchange(address(&self.service), request.as_bytes()).expect("an answer").status, 200);
    }

    /// How many mails the service took, by their customers.
    fn taken(&self) -> BTreeMap<String, usize> {
        let request = b"GET /mails HTTP/1.1\r\nhost: mail\r\nconnection: close\r\nauthorization: test\r\n\r\n";
        let mails = exchange(address(&self.service), request).expect("an answer").json();
        let mut taken = BTreeMap::new();
        for mail in mails.as_array().expect("a list") {
            *taken.entry(mail["to"].as_str().expect("a customer").to_owned()).or_default() += 1;
        }
        taken
    }

    fn listed(&self, number: usize, state: &str) -> Vec<Value> {
        let request = format!("GET /mails/{state} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n");
        let answer = exchange(address(&self.processes[number]), request.as_bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json().as_array().expect("a list").clone()
    }

    /// One process dies at this point, or while the service takes its time, with a customer that comes then.
    fn die_at(&mut self, point: &str) {
        let slow = self.service.lines_with("slow: ");
        let note = if point == "taken-slowly" {
            self.set_faults("slow=1500");
            None
        } else {
            Some(self.note(&format!("crash-{point}")))
        };
        self.register(0);
        let number = match note {
            Some(note) => {
                wait_until("a process to take the note", || !note.exists());
                let mut dead = None;
                wait_until("it to die", || {
                    dead = self.processes.iter_mut().position(|process| !process.is_alive());
                    dead.is_some()
                });
                dead.expect("one is dead")
            }
            None => {
                wait_until("a mail that is taken slowly", || self.service.lines_with("slow: ") > slow);
                // That process sent it which accepted it.
                self.processes[0].strike();
                self.processes[0].wait_for_end();
                0
            }
        };
        self.restart(number);
    }

    /// In the end each customer has one mail, and the list has each of them, with its response.
    fn settle(mut self) {
        let expected: BTreeMap<_, _> = self.customers.iter().map(|customer| (customer.clone(), 1)).collect();
        wait_until("all mails to be sent", || self.listed(0, "sent").len() == self.customers.len());
        assert_eq!(self.taken(), expected, "one mail each");
        for number in 0..2 {
            let sent = self.listed(number, "sent");
            assert!(sent.iter().all(|mail| mail["status"] == 200), "{sent:#?}");
            for state in ["waiting", "sending", "needs-attention"] {
                assert!(self.listed(number, state).is_empty(), "{state}");
            }
        }
        for process in &self.processes {
            process.terminate();
        }
        for process in &mut self.processes {
            assert!(process.wait_for_end().success(), "asked to end, it ends well");
        }
    }
}

/// At each of these points, and then at moments by chance.
fn killed(store: &str) {
    let mut shop = Shop::open(store);
    shop.register(0);
    for point in ["accepted", "before-send", "answered", "taken-slowly"] {
        shop.die_at(point);
        shop.register(1);
    }
    shop.set_faults("503,drop,503,503,drop");
    for round in 0..3 {
        shop.register(round % 2);
    }
    let rounds = std::env::var("KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(4);
    let seed = std::env::var("KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(fastrand::u64(..));
    eprintln!("KILL_SEED={seed} KILL_ROUNDS={rounds}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..rounds {
        for _ in 0..5 {
            shop.register(random.usize(0..2));
        }
        std::thread::sleep(Duration::from_millis(random.u64(0..60)));
        let number = random.usize(0..2);
        shop.processes[number].strike();
        shop.processes[number].wait_for_end();
        shop.restart(number);
    }
    shop.settle();
}

#[test]
fn killed_anywhere_on_sqlite_one_mail_a_customer() {
    killed("sqlite:mailer.db");
}

#[test]
fn killed_anywhere_on_redis_one_mail_a_customer() {
    let redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    killed(&format!("{}?index_complete=true", redis.url()));
}

#[test]
fn killed_anywhere_on_postgres_one_mail_a_customer() {
    killed(&Postgres::start().url());
}

/// What it had accepted before the outage is sent after it, and so is what it was sending meanwhile.
#[test]
fn without_its_store_the_shop_accepts_nothing_and_loses_nothing() {
    let redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let link = Proxy::to(SocketAddr::from(([127, 0, 0, 1], redis.port())));
    let mut shop = Shop::open(&format!("redis://{}?index_complete=true", link.address()));
    shop.register(0);
    let slow = shop.service.lines_with("slow: ");
    shop.set_faults("slow=500");
    shop.register(0);
    wait_until("a mail that is taken slowly", || shop.service.lines_with("slow: ") > slow);
    link.apply(Fault::Cut);
    let request = b"POST /customers/lost HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let refused = exchange(address(&shop.processes[0]), request).expect("an answer");
    assert_eq!(refused.status, 503, "{refused:?}");
    shop.processes[0].wait_for("the store is lost");
    link.heal();
    shop.register(1);
    shop.settle();
}
