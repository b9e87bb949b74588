// Grafana's own types, as JSON has them: an enumeration is written as its value.
import type { AnnotationQuery as Annotation, Dashboard, DataQuery, Panel as AnyPanel } from "@grafana/schema";
import type { Options as StatOptions } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type { FieldConfig, Options as TimeSeriesOptions } from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

type Json<T> = T extends string
  ? `${T}`
  : T extends number | boolean | null | undefined
    ? T
    : T extends object
      ? { [K in keyof T]: Json<T[K]> }
      : T;

// A threshold's value is null for the first step; the schema of 11.6 says number, and Grafana's own dashboards have null.
type Nulls<T> = T extends { value: number; color: string }
  ? { value: number | null; color: string }
  : T extends object
    ? { [K in keyof T]: Nulls<T[K]> }
    : T;

type Panel<O, F> = Nulls<Json<Omit<AnyPanel, "options" | "fieldConfig" | "targets">>> & {
  options: Json<O>;
  fieldConfig: Nulls<Json<Omit<AnyPanel["fieldConfig"] & object, "defaults">>> & {
    defaults: Nulls<Json<Omit<(AnyPanel["fieldConfig"] & object)["defaults"], "custom">>> & { custom?: Json<Partial<F>> };
  };
  targets: unknown[];
};

export type TimeSeries = Panel<TimeSeriesOptions, FieldConfig>;
export type Stat = Panel<Partial<StatOptions>, Record<string, never>>;
// The schema has no fields of the Prometheus data source: those of a query and of an annotation are stated here.
export type Prometheus = Json<DataQuery> & { expr: string; instant: boolean; legendFormat: string; range: boolean };
export type AnnotationQuery = Json<Annotation> & { expr: string; titleFormat: string };
export type Board = Json<Dashboard>;
