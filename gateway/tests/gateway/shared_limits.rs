//! Limits that gateways share through a real server, which is stopped, killed, flushed, filled and turned read-only.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::certificates::Authority;
use crate::client::{Response, get};
use crate::metrics::Scrape;
use crate::nowhere::nowhere;
use crate::origin::Origin;
use crate::redis::Redis;
use crate::rig::{Process, Rig};
use crate::running::eventually;

/// Requests without a key, all of which count together on every gateway.
const OPEN: &str = "[[routes]]\npath = \"/\"\non_missing_key = \"anonymous\"\n";
/// Interval of the exchange.
const SYNC: Duration = Duration::from_millis(100);

/// Settings of a limit of `limit` a day for each address, shared through the server at `url`.
fn shared(url: &str, limit: u32, limits: &str) -> String {
    format!(
        "[valkey]\nurl = \"{url}\"\n[limits]\n{limits}\n{OPEN}\
         [[rate_limits]]\nname = \"all\"\nby = \"address\"\nlimit = {limit}\nwindow = \"1d\"\n"
    )
}

fn gateways<const N: usize>(origin: &Origin, file: &str) -> [Rig; N] {
    let gateways: [Rig; N] = std::array::from_fn(|_| Rig::with(&origin.url(), file));
    for gateway in &gateways {
        until_up(gateway.admin, true);
    }
    gateways
}

/// A gateway of its own process, whose log can be read.
fn process(origin: &Origin, file: &str) -> Process {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    Process::start(directory, &origin.url(), &[])
}

/// Waits until a gateway shares its limits, or does not.
fn until_up(admin: SocketAddr, up: bool) {
    let sample = format!("postern_valkey_up {}\n", u8::from(up));
    eventually(&sample, || {
        get(admin, "/metrics", &[]).text().contains(&sample)
    });
}

/// How many exchanges of these gateways have failed: a busy machine may miss the time for one.
fn failures(rigs: &[Rig]) -> f64 {
    let labels = [("outcome", "failed")];
    let of = |rig: &Rig| Scrape::of(rig.admin).value("postern_valkey_exchanges_total", &labels);
    rigs.iter().map(of).sum()
}

/// A client of one gateway, which knows how many of its requests passed.
struct Client {
    gateway: SocketAddr,
    admitted: u32,
}

impl Client {
    fn of(rig: &Rig) -> Self {
        Self {
            gateway: rig.public,
            admitted: 0,
        }
    }

    fn ask(&mut self) -> Response {
        let response = ask(self.gateway);
        self.admitted += u32::from(response.status == 200);
        response
    }

    /// How many of `attempts` requests pass.
    fn passing(&mut self, attempts: u32) -> u32 {
        let before = self.admitted;
        for _ in 0..attempts {
            self.ask();
        }
        self.admitted - before
    }

    /// Asks until the gateway counts what `other` was admitted too.
    fn until_it_knows(&mut self, other: &Self, limit: u32) {
        eventually("the other's count is known", || {
            // An answer takes a unit, and they have to last for some exchanges.
            std::thread::sleep(SYNC / 2);
            let left = left(&self.ask());
            left + self.admitted + other.admitted == limit
        });
    }
}

fn ask(gateway: SocketAddr) -> Response {
    get(gateway, "/", &[])
}

/// How many of `attempts` requests pass.
fn passing(gateway: SocketAddr, attempts: usize) -> usize {
    (0..attempts).filter(|_| ask(gateway).status == 200).count()
}

/// What is left by the field of an answer.
fn left(response: &Response) -> u32 {
    let field = response.header("ratelimit").unwrap();
    let number = field.split("r=").nth(1).unwrap();
    number.split(';').next().unwrap().parse().unwrap()
}

/// Waits until `gateway` says that `wanted` are left, before each request taken by asking.
fn until_left(gateway: SocketAddr, wanted: impl Fn(u32) -> bool) -> u32 {
    let mut now = 0;
    eventually("the others' counts are known", || {
        now = left(&ask(gateway));
        wanted(now)
    });
    now
}

#[test]
fn three_gateways_admit_together_what_one_may_and_a_little() {
    const LIMIT: u32 = 400;
    let server = Redis::start();
    let origin = Origin::hello();
    let rigs: [Rig; 3] = gateways(&origin, &shared(&server.url(), LIMIT, ""));
    let is_over = AtomicBool::new(false);
    let admitted: Vec<Vec<Instant>> = std::thread::scope(|scope| {
        let clients = rigs.each_ref().map(|rig| {
            let is_over = &is_over;
            scope.spawn(move || {
                let (mut admitted, mut denied) = (Vec::new(), 0);
                // Ten times the limit, or until this gateway has denied for long.
                for _ in 0..LIMIT * 10 / 3 {
                    if ask(rig.public).status == 200 {
                        admitted.push(Instant::now());
                        denied = 0;
                    } else {
                        denied += 1;
                    }
                    if denied == 50 {
                        break;
                    }
                    // So that the limit takes many rounds.
                    std::thread::sleep(Duration::from_millis(16));
                }
                is_over.store(true, Ordering::Relaxed);
                admitted
            })
        });
        clients.map(|client| client.join().unwrap()).into()
    });
    let total: usize = admitted.iter().map(Vec::len).sum();
    // Once the limit is reached, a gateway hears of it within two rounds and the time of two exchanges, for which a busy
    // machine is given eight times as much. Besides, nobody is told of up to a tenth.
    let unheard = SYNC * 10;
    let most: usize = admitted
        .iter()
        .map(|times| {
            let within = |begin: &Instant| {
                let times = times.iter().filter(|time| *time >= begin);
                times.filter(|time| **time < *begin + unheard).count()
            };
            times.iter().map(within).max().unwrap_or_default()
        })
        .sum();
    let bound = LIMIT as usize + most + LIMIT as usize / 10;
    let each: Vec<usize> = admitted.iter().map(Vec::len).collect();
    // A gateway that was cut off goes on with its share of the limit.
    assert!(
        total <= bound || failures(&rigs) > 0.0,
        "{each:?}: {total} of {LIMIT}, at most {bound}"
    );
    assert!(
        total * 100 >= LIMIT as usize * 95 || failures(&rigs) > 0.0,
        "{each:?}: {total}"
    );
    for rig in &rigs {
        assert_eq!(ask(rig.public).code(), "rate_limited");
    }
}

#[test]
fn what_one_gateway_admitted_is_used_up_on_the_others() {
    let server = Redis::start();
    let origin = Origin::hello();
    let [one, other]: [Rig; 2] = gateways(&origin, &shared(&server.url(), 50, ""));
    assert_eq!(passing(one.public, 40), 40);
    let remaining = until_left(other.public, |left| left < 10);
    let used = 10 - remaining;
    assert_eq!(
        passing(other.public, 20),
        remaining as usize,
        "after {used}"
    );
    eventually("the first gateway hears of it", || {
        ask(one.public).status == 429
    });
}

#[test]
fn a_gateway_that_is_started_again_knows_what_it_counted() {
    let server = Redis::start();
    let origin = Origin::hello();
    let file = shared(&server.url(), 50, "");
    let [first]: [Rig; 1] = gateways(&origin, &file);
    assert_eq!(passing(first.public, 30), 30);
    eventually("the server has the count", || counts(&server) == [30]);
    drop(first);
    let [second]: [Rig; 1] = gateways(&origin, &file);
    until_left(second.public, |left| left < 20);
    let admitted = passing(second.public, 50);
    assert!(admitted < 20, "{admitted}");
    eventually("the server has both counts", || {
        let counts = counts(&server);
        counts.len() == 2 && counts.iter().sum::<u32>() >= 50
    });
}

/// Every count that the server has, of all gateways, windows and limits.
fn counts(server: &Redis) -> Vec<u32> {
    let keys = server.command("KEYS postern:1:{*");
    let counts = keys
        .iter()
        .flat_map(|key| server.command(&format!("HVALS {key}")));
    counts
        .map(|count| count.parse().unwrap())
        .filter(|count| *count > 0)
        .collect()
}

#[test]
fn nobody_waits_for_a_server_that_stopped_and_it_is_told_when_it_goes_on() {
    let server = Redis::start();
    let origin = Origin::hello();
    let file = shared(&server.url(), 200, "on_outage = \"local\"");
    let rigs: [Rig; 2] = gateways(&origin, &file);
    let [mut one, mut other] = rigs.each_ref().map(Client::of);
    let watched = process(&origin, &file);
    until_up(watched.admin, true);
    one.passing(40);
    other.until_it_knows(&one, 200);
    passing(watched.public, 25);
    server.signal("STOP");
    // All of these are answered while the server cannot answer anything.
    assert_eq!(one.passing(40), 40);
    assert_eq!(other.passing(5), 5);
    passing(watched.public, 1);
    for gateway in [rigs[0].admin, rigs[1].admin, watched.admin] {
        until_up(gateway, false);
    }
    assert_eq!(one.passing(10), 10);
    server.signal("CONT");
    for gateway in [rigs[0].admin, rigs[1].admin, watched.admin] {
        until_up(gateway, true);
    }
    eventually("the server has every count, and each once", || {
        counts(&server).iter().sum::<u32>() == one.admitted + other.admitted + 26
    });
    // On a busy machine there may be outages besides this one.
    for (line, times) in [
        ("limits are shared through the server at", 2),
        ("limits are not shared", 1),
    ] {
        eventually(line, || watched.log().matches(line).count() >= times);
    }
}

#[test]
fn a_server_that_was_killed_or_flushed_gives_nothing_back() {
    const LIMIT: u32 = 200;
    let mut server = Redis::start();
    let origin = Origin::hello();
    let rigs: [Rig; 2] = gateways(&origin, &shared(&server.url(), LIMIT, ""));
    let [mut one, mut other] = rigs.each_ref().map(Client::of);
    one.passing(50);
    other.until_it_knows(&one, LIMIT);
    server.command("FLUSHALL");
    let left = left(&other.ask());
    // A gateway that was cut off begins with what the server has.
    if failures(&rigs) == 0.0 {
        assert_eq!(left + one.admitted + other.admitted, LIMIT, "it remembers");
    }
    one.ask();
    let has_all = |server: &Redis, one: &Client, other: &Client| {
        eventually("the server has all counts again", || {
            counts(server).iter().sum::<u32>() == one.admitted + other.admitted
        });
    };
    has_all(&server, &one, &other);
    one.until_it_knows(&other, LIMIT);
    server.kill();
    assert_eq!(one.ask().status, 200);
    assert_eq!(other.ask().status, 200);
    for rig in &rigs {
        until_up(rig.admin, false);
    }
    server.resume();
    for rig in &rigs {
        until_up(rig.admin, true);
    }
    has_all(&server, &one, &other);
    one.until_it_knows(&other, LIMIT);
    let rest = LIMIT - one.admitted - other.admitted;
    assert_eq!(one.passing(LIMIT), rest);
    eventually("the other hears of it", || other.ask().status == 429);
}

#[test]
fn a_server_that_takes_no_writes_is_an_outage_until_it_does() {
    let origin = Origin::hello();
    for (breaks, mends) in [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        (
            "CONFIG SET min-replicas-to-write 1",
            "CONFIG SET min-replicas-to-write 0",
        ),
    ] {
        let server = Redis::start();
        let file = shared(&server.url(), 1000, "on_outage = \"closed\"");
        let [gateway]: [Rig; 1] = gateways(&origin, &file);
        assert_eq!(ask(gateway.public).status, 200, "{breaks}");
        server.command(breaks);
        eventually(breaks, || ask(gateway.public).status == 503);
        let refused = ask(gateway.public);
        assert_eq!(refused.code(), "limits_unavailable", "{breaks}");
        assert_eq!(refused.header("retry-after"), Some("1"), "{breaks}");
        server.command(mends);
        eventually(mends, || ask(gateway.public).status == 200);
        until_up(gateway.admin, true);
    }
}

#[test]
fn a_key_of_somebody_else_costs_its_subject_alone() {
    let server = Redis::start();
    let origin = Origin::hello();
    let other = "[[rate_limits]]\nname = \"narrow\"\nby = \"address\"\nlimit = 600\nwindow = \"1d\"\nroutes = [\"/narrow\"]\n\
                 [[routes]]\npath = \"/narrow\"\non_missing_key = \"anonymous\"\n";
    let file = format!(
        "{}{other}",
        shared(&server.url(), 1000, "on_outage = \"closed\"")
    );
    let gateway = process(&origin, &file);
    until_up(gateway.admin, true);
    for _ in 0..80 {
        assert_eq!(get(gateway.public, "/narrow", &[]).status, 200);
    }
    let mut found = Vec::new();
    eventually("the key is there", || {
        found = server.command("KEYS *:narrow:*");
        found.len() == 2
    });
    for key in &found {
        server.command(&format!("SET {key} nonsense"));
    }
    eventually("it cannot be counted", || {
        get(gateway.public, "/narrow", &[]).code_or_ok() == "limits_unavailable"
    });
    assert_eq!(ask(gateway.public).status, 200);
    until_up(gateway.admin, true);
    let told = "something else is stored at postern:1:{";
    eventually("it is logged", || gateway.log().contains(told));
    let log = gateway.log();
    assert_eq!(log.matches(told).count(), 1, "{log}");
    for key in &found {
        server.command(&format!("DEL {key}"));
    }
    eventually("it is counted again", || {
        get(gateway.public, "/narrow", &[]).status == 200
    });
}

#[test]
fn a_server_that_is_not_there_means_what_the_setting_says() {
    let origin = Origin::hello();
    let nowhere = format!("redis://{}", nowhere());
    for (on_outage, passing_of_30, then) in [
        ("split", 20, "rate_limited"),
        ("local", 20, "rate_limited"),
        ("open", 30, "ok"),
        ("closed", 0, "limits_unavailable"),
    ] {
        let file = shared(&nowhere, 20, &format!("on_outage = \"{on_outage}\""));
        let rig = Rig::with(&origin.url(), &file);
        assert_eq!(passing(rig.public, 30), passing_of_30, "{on_outage}");
        assert_eq!(ask(rig.public).code_or_ok(), then, "{on_outage}");
        until_up(rig.admin, false);
    }
}

#[test]
fn what_is_not_shared_is_split() {
    let server = Redis::start();
    let origin = Origin::hello();
    let file = format!(
        "{}[[rate_limits]]\nname = \"bucket\"\nby = \"address\"\nlimit = 10\nburst = 5\nwindow = \"1d\"\n",
        shared(&server.url(), 20, "")
    );
    let [gateway]: [Rig; 1] = gateways(&origin, &file);
    assert_eq!(passing(gateway.public, 10), 5);
    eventually("the other limit is shared", || !counts(&server).is_empty());
    assert_eq!(server.command("KEYS *:bucket:*"), [""; 0]);
}

#[test]
fn a_server_is_reached_with_a_password_over_tls_and_as_a_cluster() {
    let origin = Origin::hello();
    let authority = Authority::new();
    let pair = authority.issue(&["localhost", "127.0.0.1"]);
    let certificates = [
        ("server.crt", pair.certificate.as_str()),
        ("server.key", pair.key.as_str()),
        ("ca.crt", &authority.pem()),
    ];
    let tls = Redis::serving(
        |port| {
            format!(
                "port 0\ntls-port {port}\ntls-cert-file server.crt\ntls-key-file server.key\ntls-ca-cert-file ca.crt\n\
                 tls-auth-clients no\nrequirepass hunter2-of-the-tests\n"
            )
        },
        &certificates,
    );
    let cluster = Redis::with("cluster-enabled yes\n");
    cluster.command("CLUSTER ADDSLOTSRANGE 0 16383");
    eventually("the cluster is whole", || {
        cluster.command("CLUSTER INFO")[0].contains("cluster_state:ok")
    });
    for (url, more, variables) in [
        (
            format!("rediss://localhost:{}", tls.port),
            "ca_file = \"ca.pem\"\n",
            &[("VALKEY_PASSWORD", "hunter2-of-the-tests")][..],
        ),
        (cluster.url(), "cluster = true\n", &[][..]),
    ] {
        let file = shared(&url, 30, "").replacen("[limits]", &format!("{more}[limits]"), 1);
        let start = || {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("gateway.toml"), &file).unwrap();
            std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
            let gateway = Process::start(directory, &origin.url(), variables);
            until_up(gateway.admin, true);
            gateway
        };
        let (one, other) = (start(), start());
        assert_eq!(passing(one.public, 20), 20, "{url}");
        until_left(other.public, |left| left < 10);
        for gateway in [one, other] {
            assert!(!gateway.log().contains("hunter2"), "{}", gateway.log());
        }
    }
}

#[test]
fn a_server_that_evicts_or_wants_a_password_is_told_of() {
    let origin = Origin::hello();
    let evicting = Redis::with("maxmemory-policy allkeys-lru\n");
    let gateway = process(&origin, &shared(&evicting.url(), 30, ""));
    eventually("the log warns", || {
        gateway.log().contains("may evict counts of limits")
    });
    let guarded = Redis::with("requirepass hunter2-of-the-tests\n");
    let wrong = guarded.url().replacen("//", "//:wrong@", 1);
    for (url, why) in [
        (guarded.url(), "it wants a user and a password"),
        (wrong, "the user or the password"),
    ] {
        guarded.signal("STOP");
        let gateway = process(&origin, &shared(&url, 30, ""));
        eventually("the outage is told of", || {
            gateway.log().contains("limits are not shared")
        });
        guarded.signal("CONT");
        // Within the same outage.
        eventually(why, || gateway.log().contains(why));
        assert!(!gateway.log().contains("wrong"), "{}", gateway.log());
    }
}

#[test]
fn an_exact_limit_admits_no_unit_too_many_and_nearly_all() {
    const LIMIT: usize = 300;
    let server = Redis::start();
    let origin = Origin::hello();
    let file = format!(
        "{}exact = true\n",
        shared(
            &server.url(),
            LIMIT as u32,
            "timeout = \"10s\"\non_outage = \"closed\""
        )
    );
    let rigs: [Rig; 3] = gateways(&origin, &file);
    // As fast as they can, ten times as many.
    let admitted: Vec<usize> = std::thread::scope(|scope| {
        let clients = rigs.each_ref().map(|rig| {
            let halves = [(); 2].map(|()| scope.spawn(|| passing(rig.public, LIMIT * 10 / 6)));
            halves.map(|half| half.join().unwrap()).iter().sum()
        });
        clients.into()
    });
    let total: usize = admitted.iter().sum();
    assert!(total <= LIMIT, "{admitted:?}");
    assert!(
        total * 100 >= LIMIT * 95 || failures(&rigs) > 0.0,
        "{admitted:?}"
    );
    for rig in &rigs {
        let denied = ask(rig.public);
        assert_eq!(denied.code_or_ok(), "rate_limited");
        let seconds: u64 = denied.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=2 * 86_400).contains(&seconds), "{seconds}");
        assert_eq!(left(&denied), 0);
    }
}

#[test]
fn a_request_waits_for_an_exact_limit_no_longer_than_the_setting_says() {
    let server = Redis::start();
    let origin = Origin::hello();
    let file = format!(
        "{}exact = true\n",
        shared(
            &server.url(),
            100,
            "timeout = \"40ms\"\non_outage = \"closed\""
        )
    );
    let [gateway]: [Rig; 1] = gateways(&origin, &file);
    eventually("a lease is there", || ask(gateway.public).status == 200);
    server.signal("STOP");
    // What is held already is spent, and then nobody knows.
    let mut last = ask(gateway.public);
    eventually("the lease is spent", || {
        last = ask(gateway.public);
        last.status != 200
    });
    assert_eq!(last.code(), "limits_unavailable");
    until_up(gateway.admin, false);
    assert_eq!(ask(gateway.public).code(), "limits_unavailable");
    server.signal("CONT");
    eventually("it goes on", || ask(gateway.public).status == 200);
}

#[test]
fn scripts_that_a_server_forgot_and_units_given_back_are_no_loss() {
    let server = Redis::start();
    let origin = Origin::hello();
    let away = format!("http://{}", nowhere());
    let file = format!(
        "{}exact = true\n[[routes]]\npath = \"/away\"\nupstream = \"{away}\"\non_missing_key = \"anonymous\"\n",
        shared(
            &server.url(),
            20,
            "timeout = \"10s\"\non_outage = \"closed\""
        )
    );
    let [gateway]: [Rig; 1] = gateways(&origin, &file);
    assert_eq!(passing(gateway.public, 5), 5);
    server.command("SCRIPT FLUSH");
    for _ in 0..20 {
        let away = get(gateway.public, "/away", &[]);
        assert_eq!(away.code(), "origin_unreachable");
    }
    let passed = passing(gateway.public, 30);
    assert!(passed <= 15, "{passed}");
    // Units that were leased are lost with an exchange that was too late.
    assert!(passed == 15 || failures(&[gateway]) > 0.0, "{passed}");
}
