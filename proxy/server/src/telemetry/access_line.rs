//! One access record → one line. Written by hand, since it runs for every request: the fields are those that
//! other log lines use.

use std::io::Write;

use artifactapi_model::Timestamp;

use super::access::Entry;

/// Appends `entry` as a line, JSON or text.
pub fn write(out: &mut Vec<u8>, entry: &Entry, json: bool) {
    // Writing to a Vec cannot fail.
    let _ = if json { write_json(out, entry) } else { write_text(out, entry) };
}

fn write_json(out: &mut Vec<u8>, entry: &Entry) -> std::io::Result<()> {
    out.extend_from_slice(b"{\"timestamp\":\"");
    write_time(out, entry.at + entry.duration)?;
    out.extend_from_slice(
        b"\",\"level\":\"INFO\",\"target\":\"access\",\"message\":\"request\",\"request.id\":",
    );
    write_string(out, &entry.id)?;
    write!(out, ",\"client.address\":\"{}\",\"http.method\":", entry.client)?;
    write_string(out, entry.method.as_str())?;
    if let Some(repository) = &entry.repository {
        let (name, package_type) = (&repository.name, repository.package_type);
        write!(out, ",\"remote.name\":\"{name}\",\"remote.type\":\"{package_type}\"")?;
    }
    if let Some(robot) = &entry.robot {
        out.extend_from_slice(b",\"robot.name\":");
        write_string(out, &robot.key.to_string())?;
    }
    out.extend_from_slice(b",\"path\":");
    write_string(out, entry.path())?;
    write!(
        out,
        ",\"outcome\":\"{}\",\"http.status\":{},\"size_bytes\":{},\"duration_ms\":{:.3},\"complete\":{}}}",
        entry.outcome.as_str(),
        entry.status,
        entry.bytes,
        entry.duration.as_secs_f64() * 1e3,
        entry.complete
    )?;
    out.push(b'\n');
    Ok(())
}

fn write_text(out: &mut Vec<u8>, entry: &Entry) -> std::io::Result<()> {
    write_time(out, entry.at + entry.duration)?;
    let repository = entry.repository.as_ref().map_or("-", |repository| repository.name.as_str());
    // Control characters cannot come here: targets and canonical paths have none.
    writeln!(
        out,
        " {} {} {} {} {} {} B {:.1} ms{} from {}{} id={}",
        entry.method,
        repository,
        entry.path(),
        entry.status,
        entry.outcome.as_str(),
        entry.bytes,
        entry.duration.as_secs_f64() * 1e3,
        if entry.complete { "" } else { " incomplete" },
        entry.client,
        entry.robot.as_ref().map(|robot| format!(" ({})", robot.key)).unwrap_or_default(),
        &*entry.id,
    )
}

fn write_string(out: &mut Vec<u8>, text: &str) -> std::io::Result<()> {
    serde_json::to_writer(out, text).map_err(Into::into)
}

/// RFC 3339 in UTC with milliseconds.
pub fn rfc3339(at: Timestamp) -> String {
    let mut out = Vec::new();
    // Writing to a Vec cannot fail, and it is ASCII.
    let _ = write_time(&mut out, at);
    String::from_utf8(out).unwrap_or_default()
}

fn write_time(out: &mut Vec<u8>, at: Timestamp) -> std::io::Result<()> {
    let (seconds, ms) = (at.0.div_euclid(1000), at.0.rem_euclid(1000));
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Days since 1970-01-01 → year, month, day of the proleptic Gregorian calendar. Years begin in March here, so
/// that the leap day is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use http::Method;

    use super::*;
    use crate::{http::request_id::RequestId, telemetry::Outcome};

    fn time(ms: i64) -> String {
        rfc3339(Timestamp(ms))
    }

    #[test]
    fn writes_dates_as_rfc_3339() {
        for (ms, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(time(ms), want);
        }
    }

    #[test]
    fn a_line_is_one_json_object() {
        let entry = Entry {
            at: Timestamp(0),
            began: Instant::now(),
            duration: Duration::from_micros(1500),
            id: RequestId::given("abc").unwrap(),
            client: "192.0.2.1".parse().unwrap(),
            method: Method::GET,
            target: "/x".parse().unwrap(),
            canonical: Some("a \"quoted\" path?q=1".into()),
            repository: None,
            robot: None,
            outcome: Outcome::Hit,
            status: 200,
            bytes: 7,
            complete: true,
        };
        let mut out = Vec::new();
        write(&mut out, &entry, true);
        let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(line["path"], "a \"quoted\" path");
        assert_eq!(line["request.id"], "abc");
        assert_eq!(line["duration_ms"], 1.5);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        let mut text = Vec::new();
        write(&mut text, &entry, false);
        assert!(String::from_utf8(text).unwrap().contains("GET - a \"quoted\" path 200 hit 7 B"));
    }
}
