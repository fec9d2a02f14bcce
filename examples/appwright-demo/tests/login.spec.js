import { test, expect } from "appwright";
import { id, signIn } from "../support/shop";

test("greets the user by name", async ({ device }) => {
  await signIn(device, "Grace");
  await expect(device.getByText("Hello Grace")).toBeVisible();
});

test("lets a guest in", async ({ device }) => {
  await device.getByText("I have an account").tap();
  await device.getById(id("guest"), { exact: true }).tap();
  await expect(device.getByText("Hello guest")).toBeVisible();
});
