//! Archives on an S3 server: a real one in this process, which checks signatures, reached as the environment or the options say.

use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use logwood_archive_tests::S3Server;
use logwood_archive_tests::server::{ACCESS_KEY, BUCKET, SECRET_KEY};

use crate::support::{Place, Ran, program, records, run};

/// How the program is told of a server.
struct Remote {
    url: String,
    /// Words at the end of each command.
    words: Vec<String>,
    variables: Vec<(&'static str, String)>,
    _server: S3Server,
}

impl Remote {
    /// A server without encryption, named by an option. What the environment names is another one.
    fn by_options() -> Self {
        let server = S3Server::start().unwrap();
        let words = vec!["--endpoint".to_owned(), server.endpoint()];
        let nobody = "http://127.0.0.1:1".to_owned();
        let variables = vec![("AWS_ENDPOINT_URL", nobody.clone()), ("AWS_ENDPOINT_URL_S3", nobody)];
        Self::new(server, words, variables)
    }

    /// A server behind TLS, named by the environment. A variable that is empty is as if it were not set.
    fn by_variables(place: &Place) -> Self {
        let server = S3Server::start_tls().unwrap();
        let authority = place.file("authority.pem", server.authority().as_bytes());
        let variables = vec![
            ("AWS_ENDPOINT_URL_S3", String::new()),
            ("AWS_ENDPOINT_URL", server.endpoint()),
            ("AWS_ENDPOINT", String::new()),
            ("AWS_SESSION_TOKEN", String::new()),
            ("AWS_CA_BUNDLE", authority),
        ];
        Self::new(server, Vec::new(), variables)
    }

    fn new(server: S3Server, words: Vec<String>, mut variables: Vec<(&'static str, String)>) -> Self {
        let keys = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
        variables.extend(keys.map(|(name, value)| (name, value.to_owned())));
        variables.push(("AWS_REGION", "eu-central-1".to_owned()));
        Self { url: format!("s3://{BUCKET}/one/database"), words, variables, _server: server }
    }

    /// Runs the program; whatever it prints, the secret is not in it.
    fn run(&self, words: &[&str]) -> Ran {
        self.run_with(words, &[])
    }

    fn run_with(&self, words: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut program = program();
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
            program.env_remove(name);
        }
        program.args(words).args(&self.words).env("RUST_LOG", "trace").stdin(Stdio::null());
        program.envs(self.variables.iter().map(|(name, value)| (name, value)));
        program.envs(variables.iter().copied());
        let ran = Ran::from(program.output().unwrap());
        assert!(!format!("{ran:?}").contains(SECRET_KEY), "{words:?}: {ran:?}");
        ran
    }
}

/// The time of the last point that an archive holds.
fn last_time(status: &str) -> String {
    let interval = status.lines().rfind(|line| line.starts_with("interval\t")).unwrap();
    interval.split('\t').nth(4).unwrap().to_owned()
}

fn a_database_lives_and_comes_back(place: &Place, remote: &Remote) {
    let url = remote.url.as_str();
    let input = place.file("records.tsv", records(600).as_bytes());
    remote.run(&["load", &place.db, &input, "--batch", "100", "--archive", url]).done();
    let digest = run(["digest", &place.db]).done();
    let loaded = last_time(&remote.run(&["archive-status", url]).done());
    sleep(Duration::from_millis(20));
    run(["put", &place.db, "one", "more"]).done();
    // With a snapshot, behind which retention lets go of what is older.
    let told = remote.run(&["archive", &place.db, "--to", url, "--verify"]).done();
    assert!(told.starts_with("archived up to LSN "), "{told}");
    remote.run(&["archive-status", url, "--verify"]).done();

    assert_eq!(remote.run(&["get", "--archive", url, "one"]).done(), "more\n");
    remote.run(&["get", "--archive", url, "--time", &loaded, "one"]).fails(1, "there is no key");
    assert_eq!(remote.run(&["count", "--archive", url, "--time", &loaded]).done(), "600\n");
    let before = place.path("before").display().to_string();
    let told = remote.run(&["restore", "--from", url, &before, "--time", &loaded]).done();
    assert!(told.contains(&format!(", {loaded}, from the log alone")), "{told}");
    assert_eq!(run(["digest", &before]).done().split('\t').nth(1), digest.split('\t').nth(1));
    let part = place.path("part").display().to_string();
    remote
        .run(&["restore", "--from", url, &part, "--keyspace", "default", "--from-key", "key-000590"])
        .done();
    assert_eq!(run(["count", &part]).done(), "11\n");

    let dry = remote.run(&["retention", url, "--keep", "0s", "--dry-run"]).done();
    assert!(dry.contains("/log/") && dry.contains("would be deleted"), "{dry}");
    let done = remote.run(&["retention", url, "--keep", "0s"]).done();
    assert!(done.contains("/log/") && done.contains("stays restorable"), "{done}");
    remote.run(&["archive-status", url]).done();
    std::fs::remove_dir_all(&place.db).unwrap();
    remote.run(&["restore", "--from", url, &place.db]).done();
    assert_eq!(run(["count", &place.db]).done(), "601\n");

    // Without the right keys nothing is told.
    let ran =
        remote.run_with(&["archive-status", url, "--timeout", "2s"], &[("AWS_SECRET_ACCESS_KEY", "another")]);
    assert!(ran.code == 3 && ran.stdout.is_empty(), "{ran:?}");
}

#[test]
fn a_server_that_an_option_names_holds_an_archive_and_the_keys_come_from_the_environment() {
    let place = Place::new();
    a_database_lives_and_comes_back(&place, &Remote::by_options());
}

#[test]
fn a_server_that_the_environment_names_holds_an_archive_and_empty_variables_say_nothing() {
    let place = Place::new();
    a_database_lives_and_comes_back(&place, &Remote::by_variables(&place));
}
