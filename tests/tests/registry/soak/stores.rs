//! What is stored, seen from behind: the objects of the bucket and the rows of the database.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use artifactapi_tests::Services;

use crate::subject::Subject;

/// File that MinIO keeps for each object, in a directory of the object's name.
const OBJECT: &str = "xl.meta";

/// The stores of one cluster.
pub(super) struct Stores<'a> {
    services: &'a Services,
    database: String,
    bucket: PathBuf,
}

impl<'a> Stores<'a> {
    /// Those of `subject`, which is a cluster.
    pub(super) fn of(services: &'a Services, subject: &Subject) -> Self {
        let Subject::Replicas(cluster) = subject else {
            unreachable!("only a cluster has stores to look at")
        };
        // A cluster's bucket is called like its database.
        let database = cluster.database().to_owned();
        let bucket = services.minio.0.home().join("data").join(&database);
        Stores { services, database, bucket }
    }

    /// Names of all objects.
    fn objects(&self) -> Vec<String> {
        let mut found = Vec::new();
        // A directory that goes while it is read is no object any more.
        let _ = collect(&self.bucket, &self.bucket, &mut found);
        found
    }

    /// How many rows of blobs there are.
    fn rows(&self) -> usize {
        let count = self.services.postgres.sql(&self.database, "SELECT count(*) FROM blobs");
        count.parse().expect("a number")
    }

    /// How many manifests there are.
    pub(super) fn manifests(&self) -> usize {
        let count = self.services.postgres.sql(&self.database, "SELECT count(*) FROM manifests");
        count.parse().expect("a number")
    }

    /// What is stored beside the blobs called `names`; empty when that is nothing.
    pub(super) fn beside(&self, names: &BTreeSet<String>) -> String {
        let (objects, rows) = (self.objects(), self.rows());
        if objects.len() == names.len() && rows == names.len() {
            return String::new();
        }
        let strays = objects.iter().filter(|name| {
            let hex = name.rsplit('/').next().unwrap_or_default();
            !names.contains(&format!("sha256:{hex}"))
        });
        let few: Vec<_> = strays.take(5).collect();
        format!("{} objects and {rows} rows for {} blobs, among them {few:?}", objects.len(), names.len())
    }
}

fn collect(root: &Path, dir: &Path, found: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.join(OBJECT).is_file() {
            found.push(path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned());
        } else if path.is_dir() {
            collect(root, &path, found)?;
        }
    }
    Ok(())
}
