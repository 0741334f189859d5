//! Pushes to a Local by a robot whose token the operator made, and pods that pull by the same Secret.

use std::fs;

use artifactapi_services::Dockerd;
use artifactapi_tests::{
    Missing, Run,
    fixtures::{self, noise, oci},
    http, wait,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    Ending,
    bench::{Bench, IDLE, PATIENCE, deployment},
    release::{Release, manifest},
    site::{SITE, doorway, registry, site},
};

const LOCAL: &str = "team";
const ROBOT: &str = "ci";

/// `docker login` with the token in a Robot's Secret, `docker push` to a Local that is open to nobody else, over two
/// replicas; a Deployment runs the image with the Secret as its imagePullSecret, and one without it does not.
pub(crate) async fn by_robot(bench: &Bench) -> Ending {
    let release = site(bench).await?;
    let daemon = tokio::task::block_in_place(Dockerd::start);
    let daemon = daemon.map_err(|it| Missing(format!("{} is not installed", it.0)))?;
    let door = doorway(bench).await;
    let grants = json!([{ "repositories": [LOCAL], "actions": ["pull", "push"] }]);
    release
        .configure(&[
            manifest("Local", LOCAL, json!({ "type": "docker", "access": { "read": "authenticated" } })),
            manifest("Robot", ROBOT, json!({ "grants": grants })),
        ])
        .await;
    let name = format!("{LOCAL}/app:1.0");
    push(bench, &daemon, &release, &door.address(), &name).await;
    assert!(door.counts().connections > 1, "docker came by the node port");
    tokio::task::block_in_place(|| drop(daemon));

    let (image, host) = (format!("{}/{name}", registry(bench)), registry(bench));
    // As the administrator of a node says that a registry has no TLS.
    let plain = format!("server = \"http://{host}\"\n[host.\"http://{host}\"]\n");
    bench.node().set_hosts(&host, &plain);
    let container = json!({ "name": "one", "image": image, "command": IDLE, "imagePullPolicy": "Always" });
    let mut stranger = deployment(SITE, "stranger", &image, &IDLE, json!({}));
    crate::release::merge(&mut stranger["spec"]["template"]["spec"]["containers"][0], container);
    bench.apply(&[stranger]).await;
    refused(&release, "stranger").await;
    let secrets = json!({ "imagePullSecrets": [{ "name": ROBOT }] });
    bench.apply(&[deployment(SITE, "pushed", &image, &IDLE, secrets)]).await;
    bench.rolled_out(SITE, "pushed").await;
    release.kubectl(&["delete", "deployment", "pushed", "stranger", "--wait=false"]).await;
    // While there is a closed Local, clients are sent to the public URL for a token, which crane refuses to follow to an
    // address of a private network.
    release.kubectl(&["delete", "robot", ROBOT]).await;
    release.kubectl(&["delete", "local", LOCAL]).await;
    release.everywhere("/v2/", http::Fetched::is_ok).await;
    Ok(())
}

async fn push(bench: &Bench, daemon: &Dockerd, release: &Release<'_>, host: &str, name: &str) {
    let image = &format!("{host}/{name}");
    let secret = release.get(&["secret", ROBOT]).await;
    let token = STANDARD.decode(secret["data"]["token"].as_str().expect("a token")).expect("base64");
    let token = String::from_utf8(token).expect("text");
    let directory = bench.directory("push");
    let docker =
        |arguments: &[&str]| Run::new("docker", &directory).args(arguments).env("DOCKER_HOST", daemon.host());
    let must = async |run: Run| run.ok().await.unwrap_or_else(|why| panic!("{why}\n{}", daemon.0.log()));
    let root = directory.join("root");
    let layer = oci::layer_tar().await.unwrap_or_else(|it| panic!("{}", it.0));
    fs::write(directory.join("busybox.tar"), layer).expect("space");
    fs::create_dir_all(&root).expect("space");
    must(Run::new("tar", &root).args(["-xf", "../busybox.tar"])).await;
    // Large enough for several parts in S3.
    fixtures::write(&root.join("noise"), noise(5, 20 << 20)).expect("space");
    fixtures::tar_plain(&root, &directory.join("layer.tar"), &["bin", "noise"]).await.expect("tar");
    must(docker(&["import", "layer.tar", image])).await;
    docker(&["push", image]).fails().await.expect("nobody pushes without a login");
    must(docker(&["login", host, "-u", ROBOT, "-p", &token])).await;
    let began = std::time::Instant::now();
    must(docker(&["push", image])).await;
    println!("\nfigure: docker push of 20 MiB by a robot in {:.1} s", began.elapsed().as_secs_f64());
}

/// Waits until the pod of a Deployment says that its image is not to be had for want of rights.
async fn refused(release: &Release<'_>, name: &str) {
    let selector = format!("app={name}");
    let is_refusal = |message: &Value| {
        let message = message.as_str().unwrap_or_default();
        message.contains("401") || message.contains("authoriz")
    };
    let look = async || {
        let pods = release.get(&["pods", "-l", &selector]).await;
        let pod = &pods["items"][0];
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        if waiting["reason"] == "ErrImagePull" && is_refusal(&waiting["message"]) {
            return Ok(());
        }
        // It says so by turns with that it waits. What happened to it says so for longer.
        let about = pod["metadata"]["name"].as_str().unwrap_or_default();
        let events = release.get(&["events", &format!("--field-selector=involvedObject.name={about}")]).await;
        let is_told = |event: &Value| {
            let message = &event["message"];
            message.as_str().is_some_and(|text| text.starts_with("Failed to pull")) && is_refusal(message)
        };
        let mut all = events["items"].as_array().into_iter().flatten();
        if all.any(is_told) { Ok(()) } else { Err(format!("{waiting} {}", events["items"])) }
    };
    wait::until_good(&format!("{name} to be refused its image"), PATIENCE, look).await;
}
