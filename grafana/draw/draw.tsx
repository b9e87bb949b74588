// Draws a dashboard's JSON with Grafana's own components. The panels of Grafana itself are in no package: `TimeSeries` and `BigValue` of
// @grafana/ui, which they consist of, get the data that Grafana's Prometheus data source would give them.
import { createTheme, FieldType, getDisplayProcessor, ThemeContext, toDataFrame, dateTime, type DataFrame } from "@grafana/data";
import { BigValue, BigValueColorMode, BigValueGraphMode, BigValueTextMode, GlobalStyles, PanelChrome, TimeSeries } from "@grafana/ui";
import { createRoot } from "react-dom/client";
import "@fontsource/inter/400.css";
import "@fontsource/inter/500.css";
import "@fontsource/nanum-gothic/400.css";
import "uplot/dist/uPlot.min.css";

type Json = any; // dashboards are checked against Grafana's types elsewhere
type Series = { metric: Record<string, string>; values?: [number, string][]; value?: [number, string] };

const parameters = new URLSearchParams(location.search);
const prometheus = parameters.get("prometheus")!;
const [from, to] = [Number(parameters.get("from")), Number(parameters.get("to"))].map(Math.round); // seconds
// Inter is the font of Grafana, which loads it from a server; labels of answers are Korean. Axes are measured before they are drawn, so the
// fonts have to be there.
const FONTS = ["400 12px Inter", "500 12px Inter", '400 12px "Nanum Gothic"'];
const theme = createTheme({ colors: { mode: "dark" }, typography: { fontFamily: 'Inter, "Nanum Gothic", sans-serif' } });
const WIDTH = 1560;
const COLUMN = WIDTH / 24;
const LINE = 34;
const STEP = Math.max(1, Math.round((to - from) / 400));
const range = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: dateTime(from * 1000), to: dateTime(to * 1000) } };

function substituted(expr: string): string {
  return expr
    .replaceAll("$__rate_interval", "10s")
    .replaceAll("$__range", `${Math.round(to - from)}s`)
    .replace(/\$[a-z]+/g, ".+");
}

async function query(expr: string, instant: boolean): Promise<Series[]> {
  const call = instant ? `query?time=${to}` : `query_range?start=${from}&end=${to}&step=${STEP}`;
  const answer = await (await fetch(`${prometheus}/api/v1/${call}&query=${encodeURIComponent(substituted(expr))}`)).json();
  if (answer.status !== "success") throw new Error(`${expr}: ${answer.error}`);
  return answer.data.result;
}

function named(format: string, labels: Record<string, string>): string {
  return format.replace(/\{\{(\w+)\}\}/g, (_, name) => labels[name] ?? "");
}

// As Grafana's data source does it: a null for each step without a sample, so that no line is drawn over a gap.
function filled(points: [number, string][]): [number, number | null][] {
  const values = new Map(points.map(([time, value]) => [Math.round(time), Number(value)]));
  const times = Array.from({ length: Math.floor((to - from) / STEP) + 1 }, (_, number) => Math.round(from + number * STEP));
  return times.map((time) => [time, values.get(time) ?? null]);
}

async function frames(panel: Json): Promise<DataFrame[]> {
  const found: DataFrame[] = [];
  for (const target of panel.targets) {
    for (const series of await query(target.expr, target.instant)) {
      const points = series.values ? filled(series.values) : [[to, Number(series.value![1])] as [number, number]];
      const name = named(target.legendFormat, series.metric);
      const { custom = {}, ...defaults } = panel.fieldConfig.defaults;
      const frame = toDataFrame({
        name,
        fields: [
          { name: "Time", type: FieldType.time, values: points.map(([time]) => time * 1000) },
          {
            name: "Value",
            type: FieldType.number,
            values: points.map(([, value]) => value),
            config: {
              ...defaults,
              displayNameFromDS: name,
              custom: { drawStyle: "line", lineInterpolation: "linear", axisPlacement: "auto", scaleDistribution: { type: "linear" }, ...custom },
            },
          },
        ],
      });
      const field = frame.fields[1];
      field.state = { seriesIndex: found.length, displayName: name };
      for (const each of frame.fields) each.display = getDisplayProcessor({ field: each, theme });
      found.push(frame);
    }
  }
  return found;
}

type Mark = { time: number; colour: string };

async function marks(dashboard: Json): Promise<Mark[]> {
  const found: Mark[] = [];
  for (const annotation of dashboard.annotations.list) {
    for (const series of await query(annotation.expr, false)) {
      let last = 0;
      for (const [time] of series.values!) {
        if (time - last > 3 * STEP) found.push({ time, colour: annotation.iconColor });
        last = time;
      }
    }
  }
  return found;
}

function Graph({ panel, data, events, width, height }: Json) {
  const legend = { ...panel.options.legend, showLegend: true };
  return (
    <TimeSeries frames={data} timeRange={range} timeZone="utc" width={width} height={height} legend={legend} structureRev={1}>
      {(builder: Json) => {
        builder.addHook("draw", (plot: Json) => {
          for (const event of events as Mark[]) {
            const x = plot.valToPos(event.time * 1000, "x", true);
            plot.ctx.save();
            plot.ctx.strokeStyle = theme.visualization.getColorByName(event.colour);
            plot.ctx.setLineDash([4, 4]);
            plot.ctx.beginPath();
            plot.ctx.moveTo(x, plot.bbox.top);
            plot.ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
            plot.ctx.stroke();
            plot.ctx.restore();
          }
        });
        return null;
      }}
    </TimeSeries>
  );
}

function Values({ panel, data, width, height }: Json) {
  const rows = Math.ceil(data.length / Math.max(1, Math.floor(width / 190)));
  const columns = Math.ceil(data.length / rows);
  return (
    <div style={{ display: "flex", flexWrap: "wrap" }}>
      {data.map((frame: DataFrame, number: number) => {
        const field = frame.fields[1];
        const shown = field.display!(field.values[field.values.length - 1]);
        return (
          <BigValue
            key={number}
            width={Math.floor(width / columns)}
            height={Math.floor(height / rows)}
            value={{ ...shown, title: frame.name }}
            colorMode={BigValueColorMode.Value}
            graphMode={BigValueGraphMode.None}
            textMode={panel.options.textMode as BigValueTextMode}
            theme={theme}
          />
        );
      })}
    </div>
  );
}

function Panel({ panel, data, events }: Json) {
  const { x, y, w, h } = panel.gridPos;
  const place = { position: "absolute" as const, left: x * COLUMN + 4, top: y * LINE + 44 };
  if (panel.type === "row") return <h4 style={{ ...place, margin: 4 }}>{panel.title}</h4>;
  return (
    <div style={place}>
      <PanelChrome title={panel.title} width={w * COLUMN - 8} height={h * LINE - 8}>
        {(width: number, height: number) =>
          data.length === 0 ? (
            <div style={{ padding: 12, color: theme.colors.text.secondary }}>No data</div>
          ) : panel.type === "stat" ? (
            <Values panel={panel} data={data} width={width} height={height} />
          ) : (
            <Graph panel={panel} data={data} events={events} width={width} height={height} />
          )
        }
      </PanelChrome>
    </div>
  );
}

async function draw(): Promise<void> {
  await Promise.all(FONTS.map((font) => document.fonts.load(font, "a긍정부")));
  const dashboard = await (await fetch(`dashboards/${parameters.get("dashboard")}.json`)).json();
  const events = await marks(dashboard);
  const panels = await Promise.all(
    dashboard.panels.map(async (panel: Json) => ({ panel, data: panel.type === "row" ? [] : await frames(panel) })),
  );
  const bottom = Math.max(...dashboard.panels.map((panel: Json) => (panel.gridPos.y + panel.gridPos.h) * LINE));
  const root = document.createElement("div");
  document.body.append(root);
  document.body.style.height = `${bottom + 60}px`;
  createRoot(root).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ position: "relative", width: WIDTH, height: bottom + 60 }}>
        <h2 style={{ margin: "8px 12px" }}>{dashboard.title}</h2>
        {panels.map(({ panel, data }) => (
          <Panel key={panel.id} panel={panel} data={data} events={events} />
        ))}
      </div>
    </ThemeContext.Provider>,
  );
}

draw().catch((error) => {
  document.body.textContent = String(error);
});
