//! Scopes as registry clients write them: `repository:local/app:pull,push`. Pure.

use std::collections::BTreeSet;

use artifactapi_model::account::Action;

/// Scopes of one request that are read; more are passed over.
const MAX_SCOPES: usize = 64;

/// Something that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    /// The image's name as the client knows it.
    pub(super) name: String,
    /// What it wants to do there.
    pub(super) actions: BTreeSet<Action>,
}

/// The scope that `action` needs below the image or repository `name`. Who pushes reads too.
pub(super) fn wanted(name: &str, action: Action) -> String {
    let actions = match action {
        Action::Pull => "pull",
        Action::Push => "pull,push",
        Action::Delete => "delete",
    };
    format!("repository:{name}:{actions}")
}

/// Reads the values of `scope` parameters. What is no scope of a repository gives nothing and is no error: clients ask
/// for `registry:catalog:*` too.
pub(super) fn read<'a>(values: impl Iterator<Item = &'a str>) -> Vec<Scope> {
    values.flat_map(str::split_ascii_whitespace).take(MAX_SCOPES).filter_map(one).collect()
}

fn one(text: &str) -> Option<Scope> {
    let (kind, rest) = text.split_once(':')?;
    // `repository(plugin)` is a repository too.
    if kind.split('(').next() != Some("repository") {
        return None;
    }
    let (name, actions) = rest.rsplit_once(':')?;
    let actions = actions.split(',').flat_map(|action| match action {
        "*" => Action::ALL.to_vec(),
        other => other.parse().into_iter().collect(),
    });
    Some(Scope { name: name.to_owned(), actions: actions.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_as_clients_write_them() {
        use Action::*;
        for (text, want) in [
            ("repository:local/app:pull", vec![("local/app", vec![Pull])]),
            (
                "repository:a:pull,push repository:b/c:*",
                vec![("a", vec![Pull, Push]), ("b/c", vec![Pull, Push, Delete])],
            ),
            ("repository:host:5000/a/b:push", vec![("host:5000/a/b", vec![Push])]),
            ("repository(plugin):a/b:pull,read", vec![("a/b", vec![Pull])]),
            ("repository:a:", vec![("a", vec![])]),
            ("registry:catalog:*", vec![]),
            ("repository:a", vec![]),
            ("", vec![]),
        ] {
            let got = read([text].into_iter());
            let got: Vec<_> = got
                .iter()
                .map(|s| (s.name.as_str(), s.actions.iter().copied().collect::<Vec<_>>()))
                .collect();
            assert_eq!(got, want, "{text}");
        }
        let many = "repository:a:pull ".repeat(1000);
        assert_eq!(read([many.as_str()].into_iter()).len(), MAX_SCOPES);
        assert_eq!(read([wanted("a/b", Push).as_str()].into_iter())[0].actions, [Pull, Push].into());
    }
}
