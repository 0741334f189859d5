use proptest::prelude::*;

use super::*;

fn name(text: &str) -> RepoName {
    text.parse().unwrap()
}

fn robot(namespace: &str, grants: &[&str]) -> Account {
    let grants = grants.iter().map(|grant| grant.parse().unwrap()).collect();
    let key = RobotKey { namespace: namespace.into(), name: name("ci") };
    Account::Robot(Arc::new(Robot { key, grants, token_ttl: None }))
}

fn whole(account: Account) -> Caller {
    Caller { account, scopes: None }
}

#[test]
fn a_glob_matches_whole_names() {
    for (glob, text, want) in [
        ("*", "a", true),
        ("a", "a", true),
        ("a", "ab", false),
        ("a*", "ab", true),
        ("*a", "ba", true),
        ("*a", "ab", false),
        ("a*b*c", "a1b2b3c", true),
        ("a*a", "a", false),
        ("a*ab", "aab", true),
        ("**", "x", true),
    ] {
        assert_eq!(Glob::parse(glob).unwrap().matches(&name(text)), want, "{glob} {text}");
    }
    for bad in ["", "A", "a.b", "a b", &"a".repeat(64)] {
        assert_eq!(Glob::parse(bad), None, "{bad}");
    }
}

#[test]
fn anyone_may_what_the_repository_says_and_a_robot_what_its_grants_say() {
    use {Action::*, Verdict::*};
    let open = ReadAccess::Anonymous;
    let closed = ReadAccess::Authenticated;
    let here = name("tools");
    let repository =
        |read, anonymous_write| Protected { namespace: "team", name: &here, read, anonymous_write };
    let nobody = Account::Anonymous;
    let reader = robot("team", &["tools=pull"]);
    let writer = robot("team", &["x=delete", "t*=pull,push"]);
    let foreign = robot("other", &["*=pull,push,delete"]);
    for (account, read, anonymous_write, [pull, push, delete]) in [
        (&nobody, open, false, [Allowed, Unknown, Unknown]),
        (&nobody, open, true, [Allowed, Allowed, Allowed]),
        (&nobody, closed, false, [Unknown, Unknown, Unknown]),
        (&reader, closed, false, [Allowed, Denied, Denied]),
        (&reader, open, true, [Allowed, Allowed, Allowed]),
        (&writer, closed, false, [Allowed, Allowed, Denied]),
        (&foreign, closed, false, [Denied, Denied, Denied]),
        (&foreign, open, false, [Allowed, Denied, Denied]),
    ] {
        let caller = whole(account.clone());
        let got = [Pull, Push, Delete].map(|action| may(&caller, &repository(read, anonymous_write), action));
        assert_eq!(got, [pull, push, delete], "{account:?} {read:?} {anonymous_write}");
    }
}

#[test]
fn a_short_lived_token_only_narrows() {
    let (tools, other) = (name("tools"), name("other"));
    let closed =
        |name| Protected { namespace: "team", name, read: ReadAccess::Authenticated, anonymous_write: false };
    let scopes = Some(Scopes::from([(tools.clone(), [Action::Pull, Action::Delete].into())]));
    let caller = Caller { account: robot("team", &["*=pull,push"]), scopes: scopes.clone() };
    let verdict = |name, action| may(&caller, &closed(name), action);
    assert_eq!(verdict(&tools, Action::Pull), Verdict::Allowed);
    assert_eq!(verdict(&tools, Action::Push), Verdict::OutOfScope);
    assert_eq!(verdict(&tools, Action::Delete), Verdict::Denied, "a scope gives nothing by itself");
    assert_eq!(verdict(&other, Action::Pull), Verdict::OutOfScope);
    let nobody = Caller { account: Account::Anonymous, scopes };
    assert_eq!(may(&nobody, &closed(&tools), Action::Pull), Verdict::Unknown);
}

#[test]
fn grants_are_read_and_written() {
    for good in ["a=pull", "a,b-*=push,delete", "*=pull,push,delete"] {
        let grant: Grant = good.parse().unwrap();
        let written = grant.to_string();
        assert_eq!(written.parse::<Grant>().unwrap(), grant, "{good}");
        let json = serde_json::to_string(&grant).unwrap();
        assert_eq!(serde_json::from_str::<Grant>(&json).unwrap(), grant, "{json}");
    }
    for bad in ["", "a", "a=", "=pull", "A=pull", "a=pull,", "a=read", "a,=pull"] {
        assert!(bad.parse::<Grant>().is_err(), "{bad}");
    }
}

/// What a glob means, said in the slowest way.
fn slow(glob: &[u8], name: &[u8]) -> bool {
    match glob.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skip| slow(rest, &name[skip..])),
        Some((first, rest)) => name.first() == Some(first) && slow(rest, &name[1..]),
    }
}

proptest! {
    #[test]
    fn a_glob_is_what_it_looks_like(glob in "[ab*-]{1,8}", text in "[ab]([ab-]{0,6}[ab])?") {
        let matches = Glob::parse(&glob).unwrap().matches(&name(&text));
        prop_assert_eq!(matches, slow(glob.as_bytes(), text.as_bytes()));
    }
}
