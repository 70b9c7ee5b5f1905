//! Files, variables, flags, and what is said about them.

use crate::house::House;

#[test]
fn every_value_says_where_it_comes_from() {
    let house = House::new();
    std::fs::write(house.path().join("pilothouse.toml"), "[worker]\nengine_slots = 3\n").unwrap();
    std::fs::create_dir_all(house.path().join(".config/pilothouse")).unwrap();
    let user = house.path().join(".config/pilothouse/config.toml");
    std::fs::write(&user, "[worker]\nengine_slots = 2\nfast_slots = 5\n").unwrap();

    let shown = house
        .command(&["config", "show", "--origin", "--json"])
        .env("PILOTHOUSE_SERVER__LISTEN", "127.0.0.1:9999")
        .env("PILOTHOUSE_DATABASE_URL", "postgres://me:secret@db/x")
        .output()
        .unwrap();

    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(!text.contains("secret"), "{text}");
    let settings: serde_json::Value = serde_json::from_str(&text).unwrap();
    let find = |key: &str| {
        let found = settings["items"].as_array().unwrap().iter().find(|row| row["key"] == key).unwrap().clone();
        (found["value"].clone(), found["origin"].as_str().unwrap().to_owned())
    };
    assert_eq!(find("worker.engine_slots"), (3.into(), "pilothouse.toml:2".to_owned()));
    assert_eq!(find("worker.fast_slots"), (5.into(), format!("{}:3", user.display())));
    assert_eq!(find("server.listen"), ("127.0.0.1:9999".into(), "PILOTHOUSE_SERVER__LISTEN".to_owned()));
    assert_eq!(find("dev_channel"), (false.into(), "default".to_owned()));
    assert_eq!(find("database_url"), ("(hidden)".into(), "PILOTHOUSE_DATABASE_URL".to_owned()));
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_and_its_line() {
    let house = House::new();
    std::fs::write(house.path().join("pilothouse.toml"), "\n[server]\nlistn = \"127.0.0.1:1\"\n").unwrap();

    for args in [&["config", "check"][..], &["up"], &["status"]] {
        let refused = house.run(args);
        assert_eq!(refused.code, 2, "{args:?}: {refused:?}");
        let told = "pilothouse.toml:3: server.listn: unknown key, did you mean `server.listen`?";
        assert!(refused.stderr.contains(told), "{args:?}: {refused:?}");
    }
    std::fs::write(house.path().join("pilothouse.toml"), "").unwrap();
    assert_eq!(house.run(&["config", "check"]).code, 0);
}

#[test]
fn data_is_on_stdout_and_a_reader_that_leaves_is_no_error() {
    let house = House::new();

    let version = house.run(&["version"]);
    assert_eq!((version.stdout.starts_with("pilothouse "), version.stderr.as_str()), (true, ""));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(house.run(&["completion", shell]).stdout.contains("pilothouse"), "{shell}");
    }
    let shown = house.run(&["config", "show"]);
    assert!(!shown.stdout.contains('\u{1b}') && !shown.stderr.contains('\u{1b}'));

    let mut child = house
        .command(&["completion", "bash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.len()), (Some(0), 0));
}
