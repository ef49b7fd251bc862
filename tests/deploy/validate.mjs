// Reads custom resources as a JSON array, and says of each whether its own definition accepts it.
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
import { TriggerAuthentication } from "@kubernetes-models/keda/keda.sh/v1alpha1/TriggerAuthentication";
import { ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor";

const KINDS = { ScaledObject, ServiceMonitor, TriggerAuthentication };
let text = "";
for await (const chunk of process.stdin) text += chunk;
const answers = JSON.parse(text).map((resource) => {
  const { apiVersion, kind, ...fields } = resource;
  const known = KINDS[kind];
  if (known === undefined || known.apiVersion !== apiVersion) return `${apiVersion} ${kind} is not known here`;
  try {
    new known(fields).validate();
    return null;
  } catch (error) {
    return error.message;
  }
});
process.stdout.write(JSON.stringify(answers));
