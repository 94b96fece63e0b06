//! `POST /segment`: a picture in, a mask, an overlay or figures out, for people and scripts.

use crate::body;
use crate::job::{Labelled, Wants};
use crate::oip::OPACITY;
use crate::queue::Lane;
use crate::record::{Record, Stages};
use crate::rest::json_body;
use crate::service::{Call, Service, Source};
use crate::trouble::{Kind, Outcome, Trouble};
use axum::Extension;
use axum::body::Body;
use axum::extract::{FromRequest, Multipart, Query, State};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use fullconv::Mask;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What `/segment` is asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    #[serde(default)]
    model: String,
    r#as: Option<Form>,
    opacity: Option<f32>,
    timeout: Option<f64>,
    #[serde(default)]
    priority: u64,
    #[serde(default)]
    rle: u8,
    #[serde(default)]
    polygons: u8,
}

/// The form of the answer.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Form {
    Mask,
    Overlay,
    Json,
}

/// `POST /segment`.
pub async fn segment(
    State(service): State<Arc<Service>>,
    Extension(record): Extension<Record>,
    request: Request<Body>,
) -> Outcome<Response> {
    let asked = asked(&request)?;
    let form = asked.form(request.headers())?;
    let served = service.shared.catalog.find(&asked.model, "")?;
    record.note(|report| report.model.clone_from(&served.name));
    if !served.model.has_labels() {
        let text = format!(
            "model {} has {} classes, more than a mask has ids: /v2 gives its probabilities",
            served.name,
            served.model.class_count()
        );
        return Err(Trouble::invalid(text));
    }
    service.admit()?;
    let begin = Instant::now();
    let (file, _share) = picture_of(&service, request).await?;
    let call = Call {
        served: served.clone(),
        sources: vec![Source::File(file)],
        wants: Wants {
            mask: true,
            probabilities: false,
        },
        lane: match asked.priority {
            0 | 1 => Lane::Normal,
            _ => Lane::Bulk,
        },
        deadline: service.deadline(asked.timeout()?),
    };
    let labelled = service.label(call, &record).await;
    let statistics = |is_answered| {
        let stages = record.stages();
        let stages = [stages.queue, stages.decode, stages.device, stages.encode];
        served
            .statistics
            .request(is_answered, begin.elapsed(), stages);
    };
    let results = labelled.inspect_err(|_| statistics(false))?;
    let (stages, name) = (record.stages(), served.name.clone());
    let workers = service.shared.workers.all();
    let device = results
        .pictures
        .first()
        .and_then(|one| workers.get(one.worker));
    let device = device.map_or_else(String::new, |worker| worker.name());
    let encode = move || {
        let [labelled] = &results.pictures[..] else {
            return Err(Trouble::new(Kind::Internal, "one picture has one result"));
        };
        write(&asked, form, &name, &device, labelled, stages)
    };
    let encoded = service.encode(&record, encode).await;
    statistics(encoded.is_ok());
    let mut response = encoded?;
    if let Ok(value) = HeaderValue::from_str(&server_timing(record.stages())) {
        response.headers_mut().insert("server-timing", value);
    }
    Ok(response)
}

/// The query of `request`.
fn asked(request: &Request<Body>) -> Outcome<Asked> {
    let query = Query::<Asked>::try_from_uri(request.uri());
    let asked = query.map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        let why = source.unwrap_or_else(|| error.to_string());
        Trouble::invalid(format!(
            "{why}: /segment takes ?model=, as=mask|overlay|json, opacity=, rle=1, polygons=1, timeout= (seconds), \
             priority="
        ))
    })?;
    let opacity = asked.opacity.unwrap_or(OPACITY);
    if !(0.0..=1.0).contains(&opacity) {
        return Err(Trouble::invalid(format!(
            "opacity is 0 to 1, not {opacity}"
        )));
    }
    Ok(asked.0)
}

impl Asked {
    /// The form in the query, else the one that the header `Accept` prefers.
    fn form(&self, headers: &HeaderMap) -> Outcome<Form> {
        if let Some(form) = self.r#as {
            return Ok(form);
        }
        let accept = headers
            .get(header::ACCEPT)
            .and_then(|accept| accept.to_str().ok());
        let Some(accept) = accept else {
            return Ok(Form::Mask);
        };
        let kinds = accept
            .split(',')
            .map(|kind| kind.split(';').next().unwrap_or("").trim());
        for kind in kinds {
            match kind {
                "application/json" => return Ok(Form::Json),
                "image/png" | "image/*" | "*/*" => return Ok(Form::Mask),
                _ => {}
            }
        }
        Err(Trouble::invalid(format!(
            "Accept: {accept}: /segment answers with image/png or application/json"
        )))
    }

    fn timeout(&self) -> Outcome<Option<Duration>> {
        let wrong =
            |seconds| Trouble::invalid(format!("timeout is a number of seconds, not {seconds}"));
        match self.timeout {
            None => Ok(None),
            Some(seconds) if seconds > 0.0 => Duration::try_from_secs_f64(seconds)
                .map(Some)
                .map_err(|_| wrong(seconds)),
            Some(seconds) => Err(wrong(seconds)),
        }
    }
}

/// The picture file in the body, or in the field `file` or `image` of a form.
async fn picture_of(
    service: &Arc<Service>,
    request: Request<Body>,
) -> Outcome<(Bytes, crate::service::BodyShare)> {
    let (parts, body) = request.into_parts();
    let kind = parts.headers.get(header::CONTENT_TYPE);
    let is_form = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"multipart/form-data"));
    let received = body::receive(service, &parts.headers, body).await?;
    if !is_form {
        return Ok((received.bytes, received.share));
    }
    let wrong = |error: &dyn std::fmt::Display| {
        Trouble::invalid(format!("the form cannot be read: {error}"))
    };
    let request = Request::from_parts(parts, Body::from(received.bytes));
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|e| wrong(&e))?;
    while let Some(field) = form.next_field().await.map_err(|e| wrong(&e))? {
        if matches!(field.name(), Some("file" | "image")) {
            let bytes = field.bytes().await.map_err(|e| wrong(&e))?;
            return Ok((bytes, received.share));
        }
    }
    Err(Trouble::invalid(
        "the form has no field \"file\" or \"image\"",
    ))
}

/// The answer's body.
fn write(
    asked: &Asked,
    form: Form,
    model: &str,
    device: &str,
    labelled: &Labelled,
    stages: Stages,
) -> Outcome<Response> {
    let Some(mask) = &labelled.mask else {
        return Err(Trouble::new(Kind::Internal, "the result has no mask"));
    };
    let png = |bytes: Vec<u8>| ([(header::CONTENT_TYPE, "image/png")], bytes).into_response();
    Ok(match form {
        Form::Mask => png(mask.to_png()?),
        Form::Overlay => {
            let opacity = asked.opacity.unwrap_or(OPACITY);
            png(mask.overlay(&labelled.picture, opacity)?.to_png()?)
        }
        Form::Json => {
            let ms = |time: Duration| (time.as_secs_f64() * 1e5).round() / 1e2;
            let notes = labelled.picture.notes().iter().map(ToString::to_string);
            let body = json!({
                "model": model,
                "width": mask.width(),
                "height": mask.height(),
                "classes": classes(asked, mask),
                "notes": notes.collect::<Vec<_>>(),
                "device": device,
                "ms": {
                    "decode": ms(stages.decode),
                    "queue": ms(stages.queue),
                    "device": ms(stages.device),
                },
            });
            json_body(StatusCode::OK, &body)
        }
    })
}

/// The classes of a mask, the most frequent first.
fn classes(asked: &Asked, mask: &Mask) -> Vec<Value> {
    let pixels = mask.labels().len() as f64;
    let class = |(id, share): (u8, f64)| {
        let mut class = Map::new();
        class.insert("id".into(), id.into());
        class.insert("name".into(), mask.class_name(id).into());
        class.insert("colour".into(), json!(mask.palette().colour(id)));
        class.insert("share".into(), share.into());
        class.insert("pixels".into(), json!((share * pixels).round() as u64));
        if asked.rle != 0 {
            let rle = mask.rle(id);
            let size = rle.size();
            let rle = json!({ "size": [size.height, size.width], "counts": rle.counts() });
            class.insert("rle".into(), rle);
        }
        if asked.polygons != 0 {
            class.insert("polygons".into(), json!(mask.polygons(id)));
        }
        Value::Object(class)
    };
    mask.shares().into_iter().map(class).collect()
}

fn server_timing(stages: Stages) -> String {
    let part = |name, time: Duration| format!("{name};dur={:.2}", time.as_secs_f64() * 1e3);
    [
        part("decode", stages.decode),
        part("queue", stages.queue),
        part("device", stages.device),
        part("encode", stages.encode),
    ]
    .join(", ")
}
