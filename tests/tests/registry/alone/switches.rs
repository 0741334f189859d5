//! Every mutating route under every switch (RS-52): what is switched off is refused and changes nothing, what is not
//! goes on, and so does every read.

use artifactapi_tests::{
    http::Fetched,
    registry::{Form, Image, NewManifest, Route, Session, image_of, sha256},
};
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use super::{World, ask, at, local, send, told};
use crate::Ending;

/// Columns of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    ReadOnly,
    ReadOnlyWithoutDeletes,
    NobodyMayWrite,
    WithoutDeletes,
    Open,
}

impl Switch {
    /// Last come those that let something through.
    const ALL: [Switch; 5] = [
        Switch::ReadOnly,
        Switch::ReadOnlyWithoutDeletes,
        Switch::NobodyMayWrite,
        Switch::WithoutDeletes,
        Switch::Open,
    ];

    fn spec(self) -> Value {
        match self {
            Switch::ReadOnly => json!({ "readOnly": true }),
            Switch::ReadOnlyWithoutDeletes => json!({ "readOnly": true, "allowDeletes": false }),
            Switch::NobodyMayWrite => json!({ "access": { "anonymousWrite": false } }),
            Switch::WithoutDeletes => json!({ "allowDeletes": false }),
            Switch::Open => Value::Null,
        }
    }

    /// What `row` is answered.
    fn wanted(self, row: &Row) -> (u16, &'static str) {
        match self {
            Switch::ReadOnly | Switch::ReadOnlyWithoutDeletes => (405, "UNSUPPORTED"),
            Switch::NobodyMayWrite => (401, "UNAUTHORIZED"),
            Switch::WithoutDeletes if row.deletes => (405, "UNSUPPORTED"),
            Switch::WithoutDeletes | Switch::Open => (row.done, ""),
        }
    }

    /// Whether it is in force by now: what nobody has is asked to be deleted.
    async fn is_on(self, image: &Image) -> bool {
        let (status, _) = told(&ask(image, Method::DELETE, "manifests/none").await);
        status
            == match self {
                Switch::ReadOnly | Switch::ReadOnlyWithoutDeletes | Switch::WithoutDeletes => 405,
                Switch::NobodyMayWrite => 401,
                Switch::Open => 404,
            }
    }
}

/// A mutating request.
struct Row {
    name: &'static str,
    method: Method,
    path: String,
    media_type: &'static str,
    body: Bytes,
    /// Status where nothing stands against it.
    done: u16,
    /// Whether it is one of the three deletions.
    deletes: bool,
}

const OCTETS: &str = "application/octet-stream";

/// What there is before the first switch is thrown.
struct Stock {
    image: Image,
    source: Image,
    blob: Bytes,
    manifest: NewManifest,
    /// Not named by a manifest.
    loose: String,
    /// For each column one to append to, one to close and one to cancel.
    sessions: Vec<[Session; 3]>,
}

impl Stock {
    async fn make(world: &World) -> Stock {
        let (image, source) = (world.image("l/app"), world.image("l/source"));
        let route = Route::only(0);
        let blob = Bytes::from_static(b"{\"a\":1}");
        let manifest = image_of(&blob, &[]);
        image.push(Form::PostPut, &blob, &route).await.expect("a blob");
        source.push(Form::PostPut, &Bytes::from_static(b"to be mounted"), &route).await.expect("a blob");
        let loose = image.push(Form::PostPut, &Bytes::from_static(b"loose"), &route).await.expect("a blob");
        for tag in ["kept", "doomed"] {
            image.put_manifest(0, tag, &manifest).await.expect("a manifest");
        }
        let mut sessions = Vec::new();
        for _ in Switch::ALL {
            let begin = async || image.begin(0).await.expect("a session");
            sessions.push([begin().await, begin().await, begin().await]);
        }
        Stock { image, source, blob, manifest, loose, sessions }
    }

    /// The rows for one column, in an order in which all can succeed.
    fn rows(&self, column: usize) -> Vec<Row> {
        let [append, close, cancel] = &self.sessions[column];
        let below = |rest: &str| format!("/v2/{}/{rest}", self.image.name());
        let row = |name, method, path, body: &Bytes, done| Row {
            name,
            method,
            path,
            media_type: OCTETS,
            body: body.clone(),
            done,
            deletes: false,
        };
        let (none, new) = (Bytes::new(), Bytes::from_static(b"new"));
        let (new_digest, mounted) = (sha256(&new), sha256(b"to be mounted"));
        let other = self.manifest.clone().with("annotations", json!({ "other": "one" }));
        let manifest = |name, rest: String| Row {
            media_type: other.media_type,
            ..row(name, Method::PUT, below(&rest), &other.body, 201)
        };
        let deletion =
            |name, rest: &str| Row { deletes: true, ..row(name, Method::DELETE, below(rest), &none, 202) };
        let uploads = |query: String| below(&format!("blobs/uploads/{query}"));
        let from = format!("?mount={mounted}&from={}", self.source.name());
        vec![
            row("POST", Method::POST, uploads(String::new()), &none, 202),
            row("POST of a whole blob", Method::POST, uploads(format!("?digest={new_digest}")), &new, 201),
            row("mount", Method::POST, uploads(from), &none, 201),
            row("mount from anywhere", Method::POST, uploads(format!("?mount={mounted}")), &none, 201),
            row("mount of nothing", Method::POST, uploads(format!("?mount={}", sha256(b"0"))), &none, 202),
            row("PATCH", Method::PATCH, append.location.clone(), &new, 202),
            row("PUT of a blob", Method::PUT, format!("{}?digest={new_digest}", close.location), &new, 201),
            row("DELETE of an upload", Method::DELETE, cancel.location.clone(), &none, 204),
            manifest("PUT of a manifest by tag", "manifests/other".to_owned()),
            manifest("PUT of a manifest by digest", format!("manifests/{}", other.digest())),
            manifest("PUT of a manifest with tags", format!("manifests/{}?tag=beside", other.digest())),
            manifest("PUT that moves a tag", "manifests/doomed".to_owned()),
            deletion("DELETE of a tag", "manifests/doomed"),
            deletion("DELETE of a manifest", &format!("manifests/{}", other.digest())),
            deletion("DELETE of a blob", &format!("blobs/{}", self.loose)),
        ]
    }

    /// What readers see, each with its status; the session is that of `column`.
    async fn seen(&self, column: usize) -> Vec<(String, u16, Bytes)> {
        let (digest, blob) = (self.manifest.digest(), sha256(&self.blob));
        let mut seen = Vec::new();
        for (method, rest) in [
            (Method::GET, "manifests/kept".to_owned()),
            (Method::HEAD, "manifests/kept".to_owned()),
            (Method::GET, "manifests/doomed".to_owned()),
            (Method::GET, format!("manifests/{digest}")),
            (Method::GET, format!("blobs/{blob}")),
            (Method::HEAD, format!("blobs/{blob}")),
            (Method::GET, format!("blobs/{}", self.loose)),
            (Method::GET, format!("referrers/{digest}")),
            (Method::GET, "tags/list".to_owned()),
        ] {
            let answer = ask(&self.image, method.clone(), &rest).await;
            seen.push((format!("{method} {rest}"), answer.status, answer.body));
        }
        let catalog = at(&self.image, Method::GET, "/v2/_catalog", &[], "").await;
        seen.push(("GET _catalog".to_owned(), catalog.status, catalog.body));
        for rest in [format!("blobs/{}", sha256(b"new")), "manifests/other".to_owned()] {
            let answer = ask(&self.image, Method::GET, &rest).await;
            seen.push((format!("GET {rest}"), answer.status + 1000, Bytes::new()));
        }
        // Who may not write is not told of uploads either.
        if Switch::ALL[column] != Switch::NobodyMayWrite {
            for session in &self.sessions[column] {
                let answer = at(&self.image, Method::GET, &session.location, &[], "").await;
                seen.push(("GET of an upload".to_owned(), answer.status, Bytes::new()));
            }
        }
        seen
    }
}

async fn run(image: &Image, row: &Row) -> Fetched {
    at(image, row.method.clone(), &row.path, &[("content-type", row.media_type)], row.body.clone()).await
}

/// See the module.
pub(crate) async fn table() -> Ending {
    let world = World::of_local(&Value::Null).await;
    let stock = Stock::make(&world).await;
    let mut wrong = Vec::new();
    let mut cells = 0;
    for (column, switch) in Switch::ALL.into_iter().enumerate() {
        let what = format!("{switch:?} to be in force");
        world.change(&[local("l", &switch.spec())], &what, async || switch.is_on(&stock.image).await).await;
        let before = stock.seen(column).await;
        for (what, status, body) in &before {
            let absent = *status >= 1000;
            let good = if absent { *status == 1404 } else { matches!(status, 200 | 204) };
            // The columns before let nothing through.
            if !good && switch != Switch::Open {
                wrong.push(format!("{switch:?}: {what} was answered {status} {body:?}"));
            }
        }
        let rows = stock.rows(column);
        let all_refused = rows.iter().all(|row| !switch.wanted(row).1.is_empty());
        for row in &rows {
            let answer = run(&stock.image, row).await;
            let (status, code) = told(&answer);
            if (status, code.as_str()) != switch.wanted(row) {
                let wanted = switch.wanted(row);
                wrong.push(format!("{switch:?}: {} was answered {status} {code}, not {wanted:?}", row.name));
            }
            cells += 1;
        }
        if all_refused {
            let after = stock.seen(column).await;
            let changed = before.iter().zip(&after).filter(|(before, after)| before != after);
            wrong.extend(changed.map(|pair| format!("{switch:?}: what was read changed: {pair:?}")));
        }
    }
    assert!(wrong.is_empty(), "{} of {cells} cells: {wrong:#?}", wrong.len());
    println!("\nfigure: {cells} cells of mutating routes and switches");
    let answer = send(&stock.image, Method::GET, "manifests/kept", &[], "").await;
    assert_eq!(answer.status, 200, "what nobody touched is there");
    Ok(())
}
